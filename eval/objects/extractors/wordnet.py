"""NLTK's words and WordNet's singulars, which the original reads reference captions with."""

import importlib
from collections.abc import Callable, Sequence

from eval.objects import vocabulary
from eval.objects.extractors.base import ByTokens
from eval.objects.match import Token
from rlaifv_jax.errors import UserError


class WordnetAnalyzer:
    def __init__(self, split: Callable[[str], Sequence[str]], singular: Callable[[str], str]) -> None:
        self.split, self.singular = split, singular

    def tokens(self, text: str) -> Sequence[Token]:
        found, place = [], 0
        for word in self.split(text):
            start = text.find(word, place)
            if start >= 0:  # NLTK writes quotes in another way
                place = start + len(word)
            found.append(Token(word, self.singular(word), start=max(start, 0)))
        return found


def wordnet() -> ByTokens:
    """It does not tag, so it reads no phrases of a judge.

    Raises:
      UserError: NLTK or its data is not installed.
    """
    try:
        nltk = importlib.import_module("nltk")
        singular = importlib.import_module("nltk.stem").WordNetLemmatizer().lemmatize
        singular("dogs"), nltk.word_tokenize("Two dogs.")
    except ImportError:
        raise UserError("nltk: NLTK is not installed; pip install nltk") from None
    except LookupError:
        raise UserError("nltk: its data is not here; run python -m nltk.downloader punkt punkt_tab wordnet") from None
    analyzer = WordnetAnalyzer(nltk.word_tokenize, singular)
    return ByTokens(f"nltk-{nltk.__version__}", False, analyzer, vocabulary.load(), tagged=False)
