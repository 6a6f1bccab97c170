"""Talk with a model about a picture.

    python -m rlaifv_jax.chat --model M --image photo.jpg "What is on the table?"      answers, as it is found
    python -m rlaifv_jax.chat --model M --image photo.jpg                              asks you for questions
    python -m rlaifv_jax.chat --model M "What is a sheep?"                             without a picture
    python -m rlaifv_jax.chat --model M --web                                          a page in your browser

In a conversation the model sees what was said before. /image FILE takes another picture and /clear forgets what was
said; an empty line or Ctrl-D ends it.

Settings are those of the originals' own chats: for LLaVA-1.5 the best of three beams, for OmniLMM-12B and RLAIF-V-12B
three beams that are drawn at temperature 0.6, for Muffin and RLHF-V three beams with a repetition penalty of 1.1, for
MiniCPM-Llama3-V 2.5 draws at temperature 0.7, up to 1024 tokens; LLaVA-NeXT, which is not there, says the likeliest
token each time. What you see of it while beams run is what all of them agree on. --num-beams 1 answers sooner, with
--temperature 0.7 more freely.

The page (--web; docs/chat.md) also stops and repeats answers, shows two models side by side (--compare), and chooses
the best of several answers: by what a labeler says of their claims (--labeler), or by DPO's reward (--reference).
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax import cli
from rlaifv_jax.chat_page import serving
from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.flags import add_model_flags, add_sampling_flags, changes, check_counts, speaker_options
from rlaifv_jax.sampling.settings import Sampling

# By family; those of the originals' chat.py and muffin_chat.py, of MiniCPM-V's own chat, and ours for the others.
DEFAULTS = {
    "llava": Sampling(num_beams=3, max_new_tokens=1024),
    "llava_next": Sampling(max_new_tokens=1024),
    "omnilmm": Sampling(temperature=0.6, top_k=30, top_p=0.9, repetition_penalty=1.1, num_beams=3, max_new_tokens=1024),
    "muffin": Sampling(repetition_penalty=1.1, penalize_prompt=True, num_beams=3, max_new_tokens=1024),
    "minicpm": Sampling(temperature=0.7, top_k=100, top_p=0.8, repetition_penalty=1.05, max_new_tokens=1024),
    "llama": Sampling(max_new_tokens=1024),
}
BETWEEN_LOOKS = 2  # steps until new text is shown
ASK = "you> "

Show = Callable[[str], None]
Halt = Callable[[], bool]


class Halted(Exception):
    """Raised out of the engine where nobody wants the rest of an answer; its slots go with it."""


class Chat:
    """A model to talk with.

        chat = Chat("models/RLAIF-V-7B")
        chat.chat("photo.jpg", "Why did the car stop?")
        chat.chat({"image": "photo.jpg", "question": "Why did the car stop?"})      # the original's form

    Args:
      model: Hugging Face directory, hub id, adapters, or a directory of this project.
      options: what `rlaifv_jax.sampling.load.Speaker` takes besides (dtype, tensor, template, aspect_ratio,
        vision_path).

    Raises:
      UserError: the model cannot be opened; the message is one line.
    """

    def __init__(self, model: Any, **options: Any):
        from rlaifv_jax.sampling.load import Speaker

        if not isinstance(model, str | os.PathLike):
            raise UserError(f"model: a path or a hub id is needed, not {type(model).__name__}")
        self.speaker = Speaker(model, **options)
        self.settings = DEFAULTS[self.speaker.model.family.name]

    def chat(
        self,
        image: Any,
        question: str | None = None,
        *,
        history: Sequence[tuple[str, str]] = (),
        show: Show | None = None,
        halt: Halt | None = None,
        seed: int = 0,
        cache: str = "",
        **settings: Any,
    ) -> str:
        """The answer to a question about a picture.

        Args:
          image: a file, its bytes, a PIL image, or None; or the original's {'image': …, 'question': …}.
          history: questions and answers before.
          show: called with every new piece of text as soon as it cannot change any more.
          halt: asked every few tokens; once it says True the answer ends with what was shown.
          seed: of draws. cache: dtype of keys and values, that of the weights by default.
          settings: fields of `rlaifv_jax.sampling.settings.Sampling` that replace the family's.

        Raises:
          UserError: no such picture, a prompt that is too long, a setting that means nothing.
        """
        if isinstance(image, Mapping):
            image, question = image.get("image"), image.get("question", question)
        wanted = self._settings(settings)
        prompt = self._prompt(image, question, history, wanted)
        engine = self.speaker.engine(wanted, prompts=1, cache=cache, seed=seed)
        shown = _Shown(show, halt, engine.texts) if show or halt else None
        try:
            (found,) = engine.generate([prompt], watch=shown, every=BETWEEN_LOOKS)
        except Halted:
            return shown.text if shown else ""
        text = found.answers[0].text
        if shown:
            shown.finish(text)
        return text

    def draw(
        self,
        image: Any,
        question: str,
        number: int,
        *,
        history: Sequence[tuple[str, str]] = (),
        halt: Halt | None = None,
        seed: int = 0,
        cache: str = "",
        **settings: Any,
    ) -> list[str]:
        """`number` answers to a question, of settings that draw; none where `halt` said True. Else as `chat`."""
        wanted = self._settings(settings)
        prompt = self._prompt(image, question, history, wanted)
        engine = self.speaker.engine(wanted, prompts=1, samples=number, cache=cache, seed=seed)
        watch = _Shown(None, halt, engine.texts) if halt else None
        try:
            (found,) = engine.generate([prompt], watch=watch, every=BETWEEN_LOOKS)
        except Halted:
            return []
        return [answer.text for answer in found.answers]

    def _prompt(self, image: Any, question: str | None, history: Sequence[tuple[str, str]], wanted: Sampling) -> Any:
        from rlaifv_jax.data.faults import BadRow
        from rlaifv_jax.data.templates import Turn, said_before

        if not isinstance(question, str) or not question.strip():
            raise UserError("there is no question")
        try:
            turns = said_before(history)
        except (TypeError, ValueError):
            raise UserError("history: a list of (question, answer) is needed") from None
        turns.append(Turn("user", question))
        name = "\n".join(turn.text for turn in turns)
        try:
            prompt = self.speaker.prompter.prompt(turns, open_picture(image), name)
            self.speaker.check_length(prompt.positions, wanted.max_new_tokens)
        except BadRow as fault:
            what = {"prompt_too_long": "the conversation is too long: "}
            raise UserError(what.get(fault.reason, "") + fault.detail) from None
        return prompt

    def _settings(self, changes: Mapping[str, Any]) -> Sampling:
        try:
            settings = self.settings.changed(changes, self.speaker.defaults)
        except TypeError as error:
            raise UserError(f"settings: {error}") from None
        self.speaker.check_settings(settings)
        return settings


class _Shown:
    """Passes text on as it grows, never taking anything back, until it is told to halt."""

    def __init__(self, show: Show | None, halt: Halt | None, texts: Any):
        self.show: Show = show or (lambda text: None)
        self.halt: Halt = halt or (lambda: False)
        self.texts, self.text = texts, ""

    def __call__(self, tag: Any, tokens: list[int]) -> None:
        self.finish(self.texts.certain(tokens))
        if self.halt():
            raise Halted

    def finish(self, text: str) -> None:
        if text.startswith(self.text) and len(text) > len(self.text):
            self.show(text[len(self.text) :])
            self.text = text


def open_picture(image: Any) -> Any:
    """A file's name, bytes or a PIL image → an RGB PIL image; None stays None. Raises `UserError`."""
    from PIL import Image

    from rlaifv_jax.data.faults import BadRow
    from rlaifv_jax.data.images import decode

    if image is None:
        return None
    where = str(image) if isinstance(image, str | Path) else type(image).__name__
    try:
        if isinstance(image, Image.Image):
            if image.mode.startswith(("I", "F")):
                raise UserError(f"image: mode {image.mode} has more than 8 bits a channel; convert it to 8")
            return image.convert("RGB")
        return decode(image if isinstance(image, bytes) else Path(image).read_bytes())
    except OSError as error:
        raise UserError(f"image: {where} cannot be read: {error.strerror or error}; check the path") from None
    except BadRow as fault:
        raise UserError(f"image: {where} is no picture that can be read ({fault.detail}); give another") from None
    except ValueError as error:  # a NUL in a name, a closed image
        raise UserError(f"image: {where!r} cannot be read ({error}); check the path") from None
    except TypeError:
        raise UserError(f"image: a file's name, bytes or a PIL image is needed, not {type(image).__name__}") from None


def converse(given: argparse.Namespace) -> None:
    """Run the command."""
    if page := [name for name in ("compare", "labeler", "reference") if getattr(given, name)]:
        raise UserError(f"--{page[0]} belongs to the page; add --web")
    check_counts(tensor=(given.tensor, 0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that do not know every letter
    wanted = changes(given)
    Sampling().changed(wanted, {})  # a mistake there needs no model to be found
    picture = open_picture(given.image or None)
    chat = Chat(given.model, **speaker_options(given))

    def answer(question: str, history: Sequence[tuple[str, str]]) -> str:
        options = {"seed": given.seed, "cache": given.cache or "", **wanted}
        text = chat.chat(picture, question, history=history, show=_print, **options)
        print(flush=True)
        return text

    if given.question is not None:
        answer(given.question, ())
        return
    history: list[tuple[str, str]] = []
    while question := _read():
        command, _, argument = question.partition(" ")
        try:
            if command == "/image" and not argument.strip():
                raise UserError("which picture? Say /image FILE")
            if command == "/image":
                picture, history = open_picture(argument.strip()), []
            elif command == "/clear":
                history = []
            else:
                history.append((question, answer(question, history)))
        except UserError as error:
            cli.say(f"error: {error}" + (" (/clear forgets what was said)" if history else ""))


def _print(text: str) -> None:
    print(text, end="", flush=True)


def _read() -> str:
    try:
        return input(ASK if sys.stdin.isatty() else "").strip() if sys.stdin else ""
    except (EOFError, KeyboardInterrupt):
        return ""
    except UnicodeDecodeError:
        raise UserError("standard input is no text in UTF-8; write it in UTF-8") from None


def main() -> None:
    """Entry of the console script `rlaifv-chat`."""
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", nargs="?", help="without one you are asked for questions")
    parser.add_argument("--image", help="a picture: JPEG, PNG, WEBP, …")
    add_model_flags(parser)
    add_sampling_flags(parser)
    serving.add_flags(parser)
    given = parser.parse_args()
    sys.exit(cli.guard(lambda: (serving.serve if given.web else converse)(given)))


if __name__ == "__main__":
    main()
