"""A request → what the model takes, or why it cannot."""

import secrets
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import COLDEST, Sampling
from rlaifv_jax.serving.pictures import Sources
from rlaifv_jax.serving.protocol import SYSTEM, ApiError, ChatRequest, ImagePart, TextPart

TOO_LONG = "context_length_exceeded"
LEAST_P = 1e-6  # of top_p in float32; every likeliest token has more
LETTERS = 128  # of the longest tokens there are: a text of more a position need not be tokenised to be too long


@dataclass(frozen=True)
class Limits:
    """longest_prompt: positions. new_tokens: of an answer. answers, beams: of a request."""

    longest_prompt: int
    new_tokens: int
    answers: int
    beams: int


class Said(NamedTuple):
    """system: the message that stands in place of the template's text. url: of the picture, with its field."""

    system: str | None
    turns: list[Turn]
    url: tuple[str, str] | None


@dataclass(frozen=True)
class Understood:
    """What a request asks the model."""

    prompt: Prompt
    settings: Sampling
    seed: int


@dataclass(frozen=True)
class Prompts:
    """Reads requests to one model. Safe to share between threads."""

    speaker: Speaker
    sources: Sources
    limits: Limits

    def said(self, request: ChatRequest) -> Said:
        """What can be told before any picture is looked at. Raises `ApiError`, status 400, with what is wrong where."""
        for name, most in (("n", self.limits.answers), ("num_beams", self.limits.beams)):
            if getattr(request, name) > most:
                raise ApiError(400, f"{name} is {getattr(request, name)}; this server takes at most {most}", name)
        said = self._said(request)
        letters = sum(len(turn.text) for turn in said.turns) + len(said.system or "")
        if letters > LETTERS * self.limits.longest_prompt:
            raise self._too_long("the prompt", "far more")
        return said

    def understand(self, request: ChatRequest, said: Said, fetched: bytes | None = None) -> Understood:
        """said: of the request. fetched: its picture, if that is one of the web. Raises as `said`."""
        picture = self.sources.picture(*said.url, fetched) if said.url else None
        try:
            prompt = self.speaker.prompter.prompt(said.turns, picture, "", system=said.system)
        except BadRow as fault:
            raise ApiError(400, f"messages: {fault.detail}", "messages") from None
        except UserError as error:
            raise ApiError(400, f"messages: {error}", "messages") from None
        settings = self._settings(request, prompt.positions)
        seed = secrets.randbits(63) if request.seed is None else request.seed
        return Understood(prompt, settings, seed)

    def examples(self) -> list[Prompt]:
        """A short question, and one about a picture if the model sees any."""
        pictures = [None, Image.new("RGB", (64, 64))] if self.speaker.model.family.sees else [None]
        return [self.speaker.prompter.prompt("What is it?", picture, "") for picture in pictures]

    def _said(self, request: ChatRequest) -> Said:
        system: str | None = None
        turns: list[Turn] = []
        url: tuple[str, str] | None = None
        for number, message in enumerate(request.messages):
            field = f"messages[{number}]"
            says_how = number == 0 and message.role in SYSTEM
            if not says_how and message.role != ("user", "assistant")[len(turns) % 2]:
                order = "user and assistant have to take turns, user first, behind a system message or none"
                raise ApiError(400, f"{field}.role: {order}", f"{field}.role")
            for place, part in enumerate(message.parts):
                if not isinstance(part, ImagePart):
                    continue
                where = f"{field}.content[{place}].image_url.url"
                if says_how or turns or url:
                    raise ApiError(400, f"{where}: one picture is taken, in the user's first message", where)
                if not self.speaker.model.family.sees:
                    raise ApiError(400, f"{where}: this model sees no pictures", where)
                url = part.image_url.url, where
            text = "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
            if says_how:
                system = text
            else:
                turns.append(Turn("assistant" if message.role == "assistant" else "user", text))
        if len(turns) % 2 == 0:
            raise ApiError(400, "messages: the last one must be the user's", "messages")
        return Said(system, turns, url)

    def _settings(self, request: ChatRequest, positions: int) -> Sampling:
        asked = request.max_tokens or request.max_completion_tokens
        field = "max_completion_tokens" if request.max_tokens is None else "max_tokens"
        if asked and asked > self.limits.new_tokens:
            message = f"{field} is {asked}; this server writes at most {self.limits.new_tokens}"
            raise ApiError(400, message, field)
        if positions > self.limits.longest_prompt:
            raise self._too_long("the prompt", str(positions))
        room = self.speaker.context - positions
        if (asked or 1) > room:
            raise self._too_long(f"the prompt with {asked or 1} new tokens", str(positions + (asked or 1)))
        cold = request.temperature == 0  # takes the likeliest token, whatever else there is to draw from
        if not cold and request.temperature < COLDEST:
            message = f"temperature is {request.temperature}; it must be 0, or {COLDEST} or more"
            raise ApiError(400, message, "temperature")
        new_tokens = asked or min(self.limits.new_tokens, room)
        if request.min_tokens > new_tokens:
            message = f"min_tokens is {request.min_tokens}, more than the {new_tokens} that may be written"
            raise ApiError(400, message, "min_tokens")
        beams: dict[str, Any] = {}
        if request.num_beams > 1:
            beams = {"num_beams": request.num_beams, "length_penalty": request.length_penalty}
        try:
            return Sampling(
                temperature=request.temperature,
                top_k=0 if cold else max(0, min(request.top_k, self.speaker.model.config.decoder.vocab_size)),
                top_p=1.0 if cold else max(request.top_p, LEAST_P),
                repetition_penalty=request.repetition_penalty,
                penalize_prompt=True,
                min_new_tokens=request.min_tokens,
                max_new_tokens=new_tokens,
                stop=request.stops,
                **beams,
            )
        except UserError as error:
            raise ApiError(400, str(error)) from None

    def _too_long(self, what: str, positions: str) -> ApiError:
        most = min(self.limits.longest_prompt, self.speaker.context)
        message = f"messages: {what} takes {positions} positions, picture included; at most {most} are possible"
        return ApiError(400, message, "messages", TOO_LONG)
