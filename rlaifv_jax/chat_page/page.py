"""The page, of gradio's components; what it does is the desk's."""

import asyncio
import html
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from rlaifv_jax.chat_page.desk import Desk, View, checked
from rlaifv_jax.chat_page.talk import Asked
from rlaifv_jax.errors import UserError
from rlaifv_jax.pages import render

WARNING = "A model's answers may be wrong, and so may what a labeler says of them. Look at the picture yourself."
MOST_BEAMS, MOST_ANSWERS, FIRST_ANSWERS = 8, 16, 4
MOST_LETTERS = 100_000  # of a question; what is too long for the model is said by the model's own measure
AT_ONCE = 30  # requests that are in our line; further ones wait in gradio's, whose threads are 40
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
PAPER, INK = ("#fbfaf8", "#161514"), ("#1d1c1a", "#ebe8e2")  # light, dark; before the style is there
MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]
HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def theme() -> gr.Theme:
    """Fonts of the machine, so that none is fetched; colours are those of rlaifv_jax/pages/style.css, by our style."""
    base = gr.themes.Base(font=FONT, font_mono=MONO, radius_size="md", text_size="md")
    return base.set(
        body_background_fill=PAPER[0],
        body_background_fill_dark=PAPER[1],
        body_text_color=INK[0],
        body_text_color_dark=INK[1],
    )


class Page:
    """Builds the page of a desk.

    names: of its models. seed: of the first answer. cache: of keys and values, see `Chat.chat`.
    """

    def __init__(self, desk: Desk, names: Sequence[str], seed: int, cache: str):
        self.desk, self.names, self.cache = desk, names, cache
        with gr.Blocks(title=f"{names[0]} · chat", analytics_enabled=False, delete_cache=(3600, 3600)) as self.blocks:
            gr.HTML(render("chat_head.html.j2", names=names, warning=WARNING), padding=False)
            self.histories = gr.State(desk.empty.histories)
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=1, min_width=280):
                    self._beside(seed)
                with gr.Column(scale=3, min_width=320, elem_id="talk"):
                    self._talk()
            self.candidates = gr.HTML(visible=False, padding=False)
            self._wire()

    def _beside(self, seed: int) -> None:
        self.picture = gr.Image(
            label="Picture",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            buttons=["fullscreen"],
            placeholder="Drop a picture here\n- or -\nClick to choose one",
            alt_text="The picture that is talked about",
            elem_id="picture",
        )
        # gradio would open the file itself, and has nothing to say about one that is no picture.
        self.picture.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
        chat = self.desk.chats[0]
        with gr.Accordion("Settings", open=False):
            if len(self.names) > 1:
                gr.HTML("<p>For both models.</p>")
            settings = chat.settings
            self.temperature = gr.Slider(
                0,
                max(2.0, settings.temperature),
                settings.temperature,
                step=0.05,
                label="Temperature",
                info="0: the likeliest tokens; above, tokens are drawn",
                buttons=[],
            )
            self.beams = gr.Slider(
                1,
                max(MOST_BEAMS, settings.num_beams),
                settings.num_beams,
                step=1,
                label="Beams",
                info="More search further and take longer; text appears once they agree",
                buttons=[],
            )
            self.tokens = gr.Number(
                settings.max_new_tokens,
                label="Max tokens",
                info="Of an answer",
                minimum=1,
                maximum=chat.speaker.context - 1,
                precision=0,
            )
            self.seed = gr.Number(seed, label="Seed", info="Of draws; Regenerate takes the next", precision=0)
            if self.desk.chooser:
                ways = self.desk.chooser.ways
                self.number = gr.Slider(
                    2,
                    MOST_ANSWERS,
                    FIRST_ANSWERS,
                    step=1,
                    label="Best of",
                    info="So many answers are drawn",
                    buttons=[],
                )
                self.by = gr.Radio(ways, value=ways[0], label="Chosen by")

    def _talk(self) -> None:
        with gr.Row(elem_id="chats"):
            self.chats = [
                gr.Chatbot(
                    label=name,
                    height=None,
                    min_height=200,
                    max_height="62vh",
                    render_markdown=False,  # an answer is text
                    feedback_options=None,
                    buttons=[],
                    group_consecutive_messages=False,
                    allow_file_downloads=False,
                    placeholder="Drop a picture, and ask about it.",
                )
                for name in self.names
            ]
        self.note = gr.HTML(_note(View(())), elem_id="note", padding=False)
        with gr.Row(elem_id="ask"):
            self.box = gr.Textbox(
                label="Question",
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                max_length=MOST_LETTERS,
                placeholder="Ask about the picture",
                html_attributes=gr.InputHTMLAttributes(enterkeyhint="send"),
                scale=5,
                min_width=200,
            )
            self.send = gr.Button("Ask", variant="primary", scale=1, min_width=90)
        with gr.Row(elem_id="tools"):
            small: dict[str, Any] = {"size": "sm", "min_width": 130}
            self.stop = gr.Button("Stop", interactive=False, **small)
            self.again = gr.Button("Regenerate", interactive=False, **small)
            if self.desk.chooser:
                self.choose = gr.Button("Best of several", **small)
            self.clear = gr.Button("New conversation", **small)

    # ---------------------------------------------------------------- what happens

    def _wire(self) -> None:
        about = [self.box, self.picture, self.histories, self.temperature, self.beams, self.tokens, self.seed]
        seen = [*self.chats, self.histories, self.note, self.box, self.seed, self.candidates]
        seen += [self.send, self.stop, self.again, *([self.choose] if self.desk.chooser else [])]
        waiting: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "answers", **HIDDEN}
        growing = [
            gr.on([self.box.submit, self.send.click], self._ask, about, seen, **waiting),
            self.again.click(self._again, about, seen, **waiting),
        ]
        if self.desk.chooser:
            growing.append(self.choose.click(self._choose, [*about, self.number, self.by], seen, **waiting))
        at_once: dict[str, Any] = {"queue": False, **HIDDEN}
        ends = [self.clear.click, self.picture.clear, *(chat.clear for chat in self.chats)]
        gr.on(ends, self._new, [], seen, cancels=growing, **at_once)
        self.picture.upload(self._picture, self.picture, [self.picture, *seen], cancels=growing, **at_once)
        self.stop.click(self._stop, [], [self.note, self.stop], **at_once)
        self.blocks.unload(self._gone)

    def _ask(self, request: gr.Request, *given: Any) -> Iterator[dict[Any, Any]]:
        for view in self.desk.ask(_session(request), self._asked(*given)):
            yield self._shown(view)

    def _again(self, request: gr.Request, *given: Any) -> Iterator[dict[Any, Any]]:
        asked = self._asked(*given)
        asked.settings["seed"] += 1
        for view in self.desk.again(_session(request), asked):
            yield self._shown(view) | ({self.seed: asked.settings["seed"]} if view.busy else {})

    def _choose(self, request: gr.Request, *given: Any) -> Iterator[dict[Any, Any]]:
        *asked, number, by = given
        for view in self.desk.choose(_session(request), self._asked(*asked), int(number), by):
            yield self._shown(view)

    def _asked(
        self, question: str, image: str | None, histories: Any, heat: float, beams: float, tokens: float, seed: float
    ) -> Asked:
        settings = {
            "temperature": float(heat or 0),
            "num_beams": int(beams or 1),
            "max_new_tokens": int(tokens or 0),
            "seed": int(seed or 0),
            "cache": self.cache,
        }
        return Asked(image, question, [list(map(tuple, history)) for history in histories], settings)

    def _new(self, request: gr.Request) -> dict[Any, Any]:
        self.desk.visitors.drop(_session(request))
        return self._shown(self.desk.empty)

    def _picture(self, request: gr.Request, image: str | None) -> dict[Any, Any]:
        """Another picture begins another conversation; what was asked while it came may be asked again."""
        asking = self.desk.visitors.drop(_session(request))
        view = replace(self.desk.empty, note="A new conversation about this picture.", box=asking or None)
        try:
            checked(image)
        except UserError as error:
            fault = str(error).replace(str(image), Path(image or "").name)
            return self._shown(replace(view, note="", error=fault)) | {self.picture: None}
        return self._shown(view)

    async def _stop(self, request: gr.Request) -> dict[Any, Any]:
        self.desk.visitors.stop(_session(request))
        await asyncio.sleep(0)
        return {self.note: _note(View((), note="Stopping …")), self.stop: gr.update(interactive=False)}

    def _gone(self, request: gr.Request) -> None:
        self.desk.visitors.drop(_session(request))

    def _shown(self, view: View) -> dict[Any, Any]:
        """Every component's share of a view."""
        idle = not view.busy
        said = view.saying or ("",) * len(self.chats)
        changes: dict[Any, Any] = {
            self.note: _note(view),
            self.send: gr.update(interactive=idle),
            self.stop: gr.update(interactive=view.busy),
            self.again: gr.update(interactive=idle and any(view.histories)),
            self.candidates: gr.update(value=view.choice.html() if view.choice else "", visible=bool(view.choice)),
        }
        if self.desk.chooser:
            changes[self.choose] = gr.update(interactive=idle)
        for chat, history, saying in zip(self.chats, view.histories, said, strict=True):
            changes[chat] = _messages([*history, *([(view.asking, saying or "…")] if view.busy else [])])
        if idle:
            changes[self.histories] = view.histories
        if view.box is not None:
            changes[self.box] = view.box
        return changes


def _messages(history: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Escaped: gradio takes tags for what they are, and the picture of one would be fetched from where it says."""
    return [
        {"role": role, "content": html.escape(text) or "(nothing)"}
        for turn in history
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _note(view: View) -> str:
    return render("chat_note.html.j2", note=view.note, error=view.error)


def _session(request: gr.Request) -> str:
    return str(request.session_hash)
