"""What an extractor of objects does, and those that do it by tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from eval.benchmark import Mode
from eval.objects.match import PHRASES, TEXT, Analyzer, Mention, Token, standing
from eval.objects.vocabulary import Vocabulary
from rlaifv_jax.errors import UserError


@runtime_checkable
class ObjectExtractor(Protocol):
    """An `eval.benchmark.Extractor`. world: 'coco' or 'shapes', whose classes it knows."""

    name: str
    is_reference: bool
    world: str

    def in_text(self, text: str, mode: Mode) -> list[Mention]:
        """What running text mentions."""

    def in_phrases(self, phrases: Sequence[str], mode: Mode) -> list[Mention]:
        """What the phrases that a judge lists mention. Raises `UserError` where it cannot read phrases."""

    def marked(self, answer: str, mentions: Sequence[Mention]) -> list[str]:
        """Where mentions stand in an answer: its own words, each once; those that cannot be found are not there."""


@dataclass
class ByTokens:
    """tagged: whether the analyzer tags, which phrases need. similar: two words, from -1 to 1, where the analyzer has
    vectors; similarity: the name of these."""

    name: str
    is_reference: bool
    analyzer: Analyzer
    vocabulary: Vocabulary
    tagged: bool = True
    world: str = "coco"
    similar: Callable[[str, str], float] | None = None
    similarity: str = ""

    def __post_init__(self) -> None:
        # A text comes again: in the other mode, to be marked, or because it is a phrase as short as "man".
        self.tokens: Callable[[str], Sequence[Token]] = lru_cache(maxsize=4096)(self.analyzer.tokens)

    def in_text(self, text: str, mode: Mode) -> list[Mention]:
        return TEXT[mode](self.tokens(text.lower()), self.vocabulary)

    def in_phrases(self, phrases: Sequence[str], mode: Mode) -> list[Mention]:
        if not self.tagged:
            raise UserError(f"{self.name} does not tag, which a judge's phrases need; choose another --extractor")
        return PHRASES[mode]([self.tokens(f"a {phrase}") for phrase in phrases], self.vocabulary)

    def marked(self, answer: str, mentions: Sequence[Mention]) -> list[str]:
        surfaces = [mention.surface for mention in mentions]
        return standing(answer, self.tokens(answer), surfaces, self.vocabulary) if surfaces else []
