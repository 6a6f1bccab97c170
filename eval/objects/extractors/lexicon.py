"""Nouns without a model: words by a regular expression, singulars by endings, tags by lists of what is no noun.

A word of the vocabulary, or of what is joined, is a noun wherever it stands. How far this is from spaCy's
en_core_web_trf on real answers has not been measured.
"""

import re
from collections.abc import Iterator, Sequence

from eval.objects import vocabulary
from eval.objects.extractors.base import ByTokens
from eval.objects.extractors.english import ENDINGS, NOUNS_ALL_THE_SAME, TAGS
from eval.objects.match import Token
from eval.objects.vocabulary import Vocabulary

NAME = "lexicon-1"  # another number for whatever changes what is found
_LETTERS = r"[^\W\d_]+"
_TOKEN = re.compile(rf"{_LETTERS}(?:-{_LETTERS})*|['’]s\b|\d+(?:[.,]\d+)*|\S")


class LexiconAnalyzer:
    def __init__(self, words: Vocabulary) -> None:
        self.vocabulary = words
        self.nouns = words.words | {word.lower() for word in words.words}

    def tokens(self, text: str) -> Sequence[Token]:
        return [self._token(word, start) for word, start in self._words(text)]

    def _words(self, text: str) -> Iterator[tuple[str, int]]:
        """Words and where they start. What hyphens join is one word, except where it is a joined one: teddy-bear."""
        for found in _TOKEN.finditer(text):
            parts = found[0].split("-") if len(found[0]) > 1 else [found[0]]
            if len(parts) > 1 and " ".join(map(self._singular, parts)) in self.vocabulary.folded.joined:
                start = found.start()
                for part in parts:
                    yield part, start
                    start += len(part) + 1
            else:
                yield found[0], found.start()

    def _token(self, word: str, start: int) -> Token:
        lemma = self._singular(word)
        if lemma in self.nouns:
            return Token(word, lemma, "NN" if lemma == word.lower() else "NNS", start)
        tag = self._tag(word.lower())
        if tag != "NN":
            return Token(word, word.lower(), tag, start)
        return Token(word, lemma, "NN" if lemma == word.lower() else "NNS", start)

    def _singular(self, word: str) -> str:
        return self.vocabulary.singular(word)

    def _tag(self, word: str) -> str:
        if word in TAGS:
            return TAGS[word]
        if not word[0].isalpha():
            return "CD" if word[0].isdigit() else "POS" if word.endswith("s") else "."
        if word in NOUNS_ALL_THE_SAME or self._singular(word) in NOUNS_ALL_THE_SAME:
            return "NN"
        return next((tag for ending, tag in ENDINGS.items() if word.endswith(ending)), "NN")


def lexicon() -> ByTokens:
    words = vocabulary.load()
    return ByTokens(NAME, False, LexiconAnalyzer(words), words)
