"""What a request may say: chat completions as OpenAI's client sends them, and what vLLM adds.

Whatever is not here is refused by name, but for values that mean what happens anyway (NEUTRAL).
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from rlaifv_jax.serving.seats import TOP

SYSTEM = ("system", "developer")  # two names of one role
MOST_STOPS = 16  # strings
HOTTEST = 100  # of temperatures and penalties, beyond which float32 tells nothing apart


class ApiError(Exception):
    """status: of HTTP. param: the field that is at fault. headers: of the reply."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class ImageUrl(_Fields):
    url: str
    detail: Literal["auto"] = "auto"


class TextPart(_Fields):
    type: Literal["text"]
    text: str


class ImagePart(_Fields):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


KINDS = ("<text>", "<parts>")


def _kind(content: Any) -> str:
    return KINDS[isinstance(content, list)]


class Message(_Fields):
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[Annotated[str, Tag("<text>")] | Annotated[list[Part], Tag("<parts>")], Discriminator(_kind)]

    @property
    def parts(self) -> list[TextPart | ImagePart]:
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class StreamOptions(_Fields):
    include_usage: bool = False


Stop = Annotated[str, Field(min_length=1, max_length=256)]


class ChatRequest(_Fields):
    """min_tokens, top_k (0 or -1: all), repetition_penalty (over the prompt and the answer), length_penalty: vLLM's.
    num_beams: more than 1 searches with beams. user: is not looked at, as nowhere."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1)
    temperature: float = Field(1.0, ge=0, le=HOTTEST)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    repetition_penalty: float = Field(1.0, ge=1 / HOTTEST, le=HOTTEST)
    num_beams: int = Field(1, ge=1)
    length_penalty: float = Field(1.0, ge=-HOTTEST, le=HOTTEST)
    min_tokens: int = Field(0, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: (
        Annotated[
            Annotated[Stop, Tag("<text>")] | Annotated[list[Stop], Field(max_length=MOST_STOPS), Tag("<parts>")],
            Discriminator(_kind),
        ]
        | None
    ) = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=TOP)
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "min_p": (0,),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "echo": (False,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
}


def parse(body: bytes) -> ChatRequest:
    """Raises `ApiError`, status 400, that names the field."""
    try:
        text = body.decode()
        found = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
    except UnicodeEncodeError:
        raise ApiError(400, "a text holds half of a surrogate pair") from None
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be a JSON object")
    given = {name: value for name, value in found.items() if not _is_neutral(name, value)}
    try:
        request = ChatRequest.model_validate(given)
    except ValidationError as error:
        raise _of_validation(error) from None
    _check(request)
    return request


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _is_neutral(name: str, value: Any) -> bool:
    same = (value == one and isinstance(value, bool) == isinstance(one, bool) for one in NEUTRAL.get(name, ()))
    return value is None or any(same)


def _check(request: ChatRequest) -> None:
    """What fields say of each other."""
    most = (request.max_tokens, request.max_completion_tokens)
    if None not in most and most[0] != most[1]:
        raise ApiError(400, f"max_tokens and max_completion_tokens differ: {most[0]} and {most[1]}", "max_tokens")
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError(400, "top_logprobs: set logprobs to true as well", "top_logprobs")
    if request.stream_options and not request.stream:
        raise ApiError(400, "stream_options: set stream to true as well", "stream_options")
    beams = request.num_beams > 1
    if beams and request.logprobs:
        raise ApiError(400, "logprobs: there are none of beams; leave out num_beams", "logprobs")
    if not beams and request.length_penalty != 1:
        raise ApiError(400, "length_penalty is for num_beams above 1", "length_penalty")
    if beams and request.n > request.num_beams:
        raise ApiError(400, f"n is {request.n}, more than num_beams, {request.num_beams}", "n")
    if not beams and request.n > 1 and request.temperature == 0:
        raise ApiError(400, f"n is {request.n}, but at temperature 0 all answers would be the same", "n")


def _of_validation(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path, places = "", first["loc"]
    for number, step in enumerate(places):
        if isinstance(step, int):
            path += f"[{step}]"
        elif step not in KINDS and places[max(number - 2, 0)] != "<parts>":  # names of kinds, not of fields
            path += f".{step}" if path else step
    path = re.sub(r"[^\w.\[\]-]", "?", path)[:200]  # what the client calls its fields, made harmless
    said = "this server does not support it" if first["type"] == "extra_forbidden" else first["msg"]
    return ApiError(400, f"{path}: {said}", path)
