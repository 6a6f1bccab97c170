"""How tokens are chosen. Names and meanings are those of transformers' `generate`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlaifv_jax.errors import UserError

DTYPES = ("float32", "bfloat16")  # of weights and activations
CACHE_DTYPES = (*DTYPES, "int8")  # of keys and values
TOP_K = 50  # of transformers' generate, where neither a person nor the checkpoint says otherwise

COLDEST = 1e-3  # temperature; below, logits divided by it leave what float32 can tell apart


@dataclass(frozen=True)
class Sampling:
    """Greedy decoding unless said otherwise.

    temperature: 0 takes the most likely token; otherwise logits are divided by it and a token is drawn.
    top_k: draw from so many of the most likely tokens only; 0 from all.
    top_p: draw from the fewest most likely tokens that have this much probability together (arXiv 1904.09751).
    repetition_penalty: logits of tokens said before are divided by it, or multiplied where negative
      (arXiv 1909.05858). What was said is BOS and the answer, and the prompt too with penalize_prompt.
    min_new_tokens, max_new_tokens: of an answer, its end token included.
    num_beams: more than 1 searches with beams; with a temperature beams are drawn instead of taken.
    length_penalty: a finished beam's log-probability is divided by its length to this power.
    early_stopping: True ends a search with num_beams finished beams; False when the best running beam is, at its
      present length, worse than the worst finished one; 'never' when it could not become better at any length.
    stop: strings that end an answer and are cut off with all that follows. Beams are cut when they are finished, which
      only end tokens, and what a template closes answers with, make them.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    penalize_prompt: bool = False
    min_new_tokens: int = 0
    max_new_tokens: int = 512
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `UserError` for a value that means nothing."""
        if isinstance(self.stop, str):
            raise UserError(f"stop is {self.stop!r}; a list of strings is needed")
        object.__setattr__(self, "stop", tuple(self.stop))
        for name in ("top_k", "min_new_tokens", "max_new_tokens", "num_beams"):
            if type(getattr(self, name)) is not int:
                raise UserError(f"{name} is {getattr(self, name)!r}; a whole number is needed")
        for name in ("temperature", "top_p", "repetition_penalty", "length_penalty"):
            if type(getattr(self, name)) not in (int, float):
                raise UserError(f"{name} is {getattr(self, name)!r}; a number is needed")
        heat = self.temperature
        for name, good, legal in (
            ("temperature", heat == 0 or COLDEST <= heat < float("inf"), f"0, or {COLDEST} or more"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "above 0"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("min_new_tokens", 0 <= self.min_new_tokens <= self.max_new_tokens, "between 0 and max_new_tokens"),
            ("num_beams", self.num_beams >= 1, "1 or more"),
            ("length_penalty", abs(self.length_penalty) < float("inf"), "a number"),
            ("early_stopping", self.early_stopping in (True, False, "never"), "true, false or never"),
            ("stop", all(isinstance(mark, str) and mark for mark in self.stop), "strings that are not empty"),
        ):
            if not good:
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be {legal}")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise UserError("top_k and top_p choose what is drawn from, but temperature 0 draws nothing")

    @property
    def draws(self) -> bool:
        return self.temperature > 0

    @property
    def penalises(self) -> bool:
        return self.repetition_penalty != 1

    def changed(self, changes: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> "Sampling":
        """These settings with some of them changed, and with them what nobody would want to keep.

        Who asks a greedy setting for a temperature wants draws, from what the checkpoint says, and no beams; who asks
        one that draws for beams wants a search; without a temperature there is nothing to draw from.

        Args:
          changes: fields of this class. checkpoint: generation_config.json.
        """
        wanted = dict(changes)
        if self.num_beams == 1 and wanted.get("num_beams", 1) > 1:
            wanted.setdefault("temperature", 0.0)
        if wanted.get("temperature", 0) > 0 and not self.draws:
            wanted = {"num_beams": 1, **drawing(checkpoint), **wanted}
        if wanted.get("temperature") == 0:
            wanted = {"top_k": 0, "top_p": 1.0, **wanted}
        return replace(self, **wanted)


def check_samples(settings: Sampling, samples: int, branches: int) -> None:
    """Raises `UserError` where so many answers to a prompt, `branches` at once (0: not said), cannot be had."""
    beams = settings.num_beams
    if beams > 1 and samples > beams:
        raise UserError(f"{samples} answers from {beams} beams: num_beams must be {samples} or more")
    if beams > 1 and branches:
        raise UserError("branches are samples that are written at once; beams always run together: leave branches out")
    if samples > 1 and beams == 1 and not settings.draws:
        raise UserError(f"{samples} answers without a temperature or beams would all be the same; ask for one")


def drawing(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What to draw from where nobody says: as generation_config.json has it, else transformers' own default."""
    return {"top_k": TOP_K} | said_by(checkpoint, "top_k", "top_p")


def said_by(checkpoint: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Fields of this page that generation_config.json sets."""
    return {name: checkpoint[name] for name in names if checkpoint.get(name) is not None}


@dataclass(frozen=True)
class Rules:
    """How an answer grows and where it ends. ends: ids of end tokens. closing: tokens that end it together, if any."""

    settings: Sampling
    ends: tuple[int, ...]
    closing: tuple[int, ...] = ()

    @property
    def ending(self) -> int:
        """How many different tokens may end an answer at any moment."""
        return len(self.ends) + bool(self.closing)
