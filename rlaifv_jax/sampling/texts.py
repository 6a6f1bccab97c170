"""What the tokens of an answer say: where its text ends, and where it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaifv_jax.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Texts:
    """stop: strings that end an answer. lead: what the model writes before it, see `Conversation`; where that is not
    written all is answer."""

    tokenizer: Tokenizer
    stop: tuple[str, ...] = ()
    lead: str = ""

    def raw(self, tokens: Sequence[int]) -> str:
        """Rows of the vocabulary that the tokenizer does not know (padding, image patches) say nothing."""
        return self.tokenizer.decode([token for token in tokens if token < self.tokenizer.vocab_size])

    def stopped(self, tokens: Sequence[int]) -> bool:
        """Whether a stop string is there."""
        if not self.stop:
            return False
        text = self.raw(tokens)
        return any(mark in text for mark in self.stop)

    def answer(self, tokens: Sequence[int]) -> str:
        """The text of all tokens, cut and stripped."""
        text = self.raw(tokens)
        text = text[: min((text.find(mark) for mark in self.stop if mark in text), default=None)]
        return (text.partition(self.lead)[2] if self.lead and self.lead in text else text).strip()

    def certain(self, tokens: Sequence[int]) -> str:
        """What the answer will begin with, whatever follows."""
        text = self.raw(tokens).rstrip("\ufffd")  # a letter of which some bytes are missing
        text = before_stop(text, self.stop)
        if self.lead:
            text = text.partition(self.lead)[2]
        return text.strip()  # blanks at the end may turn out to be the end


def before_stop(text: str, stop: Sequence[str]) -> str:
    """What stands before the first stop string, whole or begun at the end of the text."""
    places = [len(text)]
    for mark in stop:
        if mark in text:
            places.append(text.index(mark))
        places += [len(text) - n for n in range(1, len(mark)) if text.endswith(mark[:n])]
    return text[: min(places)]
