"""From tokens to mentions of objects: of phrases that a judge lists, and of running text.

`compat`, the functions `…_as_published`, is the original (eval/eval_gpt_obj_halbench.py of RLAIF-V) given the same
tokens, tags and lemmas: neighbouring lemmas are joined if the vocabulary has the pair; of a phrase with such a pair
nothing else counts; of any other its unbroken runs of nouns do, each as a whole; words are looked up in their own case.
The original also keeps a list of the places of hallucinated words, wrong behind a toilet's seat; there is none here, as
words are marked where they stand.

`fixed` mends this:
- case does not matter ("Dog", "iPhone" in a caption);
- singulars are those of `eval.objects.lemmas`, in captions and answers alike ("scissors", "men"), whoever finds tokens;
- a run of nouns that is no object as a whole is what its last words say ("water bottle", "kitchen table");
- nouns beside a joined pair still count ("a hot dog and a fork");
- entries of three words are joined too ("stove top oven"), and "hair dryer" is a hair drier.

Left in both: words with two meanings. The colour in "orange shirt" is a fruit in running text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from eval.benchmark import Mode
from eval.objects.vocabulary import Vocabulary

NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))


@dataclass(frozen=True)
class Token:
    """text: as it stands. tag: of the Penn Treebank, '' where nobody tagged. start: where it stands."""

    text: str
    lemma: str
    tag: str = ""
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Analyzer(Protocol):
    def tokens(self, text: str) -> Sequence[Token]:
        """All tokens of a text, in order."""


@dataclass(frozen=True)
class Mention:
    """surface: entry of the vocabulary. canonical: name of its class."""

    surface: str
    canonical: str


Phrases = Sequence[Sequence[Token]]
PhraseMatcher = Callable[[Phrases, Vocabulary], list[Mention]]
TextMatcher = Callable[[Sequence[Token], Vocabulary], list[Mention]]


def phrases_as_published(phrases: Phrases, vocabulary: Vocabulary) -> list[Mention]:
    """Mentions of a response, each word once, in order."""
    found: list[str] = []
    for tokens in phrases:
        lemmas = [token.lemma for token in tokens]
        pairs = [word for word, size in _joined(lemmas, vocabulary, 2) if size > 1]
        found += pairs or [" ".join(run) for run in _noun_runs(tokens)]
    return _known(dict.fromkeys(found), vocabulary)


def text_as_published(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Mention]:
    """Mentions of a text, as often as they are there, in order."""
    lemmas = [token.lemma for token in tokens]
    return _known([word for word, _ in _joined(lemmas, vocabulary, 2)], vocabulary)


def phrases(phrases: Phrases, vocabulary: Vocabulary) -> list[Mention]:
    """The same as `phrases_as_published`, mended."""
    vocabulary = vocabulary.folded
    found: list[str] = []
    for tokens in phrases:
        run: list[str] = []
        place = 0
        for word, size in _joined([vocabulary.singular(token.text) for token in tokens], vocabulary, 3):
            if size == 1 and tokens[place].tag in NOUNS:
                run.append(word)
            else:
                found += [*_head(run, vocabulary), word] if size > 1 else _head(run, vocabulary)
                run = []
            place += size
        found += _head(run, vocabulary)
    return _known(dict.fromkeys(found), vocabulary)


def text(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Mention]:
    """The same as `text_as_published`, mended."""
    vocabulary = vocabulary.folded
    lemmas = [vocabulary.singular(token.text) for token in tokens]
    return _known([word for word, _ in _joined(lemmas, vocabulary, 3)], vocabulary)


PHRASES: dict[Mode, PhraseMatcher] = {"compat": phrases_as_published, "fixed": phrases}
TEXT: dict[Mode, TextMatcher] = {"compat": text_as_published, "fixed": text}


def _joined(words: Sequence[str], vocabulary: Vocabulary, most: int) -> Iterator[tuple[str, int]]:
    """(word, how many of the words it is), from left to right, of as many as can be joined."""
    place = 0
    while place < len(words):
        for size in range(min(most, len(words) - place), 1, -1):
            whole = vocabulary.joined.get(" ".join(words[place : place + size]))
            if whole is not None:
                yield whole, size
                place += size
                break
        else:
            yield words[place], 1
            place += 1


def _noun_runs(tokens: Sequence[Token]) -> Iterator[list[str]]:
    for nouns, run in groupby(tokens, lambda token: token.tag in NOUNS):
        if nouns:
            yield [token.lemma for token in run]


def _head(run: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """The longest end of a run of nouns that is an entry."""
    ends = (" ".join(run[start:]) for start in range(len(run)))
    return [end for end in ends if end in vocabulary.canonical][:1]


def _known(words: Iterable[str], vocabulary: Vocabulary) -> list[Mention]:
    """Entries among words; a seat beside a toilet is its seat."""
    words = list(words)
    dropped = {"seat"} if "toilet" in words and "seat" in words else set()
    names = vocabulary.canonical
    return [Mention(word, names[word]) for word in words if word in names and word not in dropped]


def standing(answer: str, tokens: Sequence[Token], surfaces: Iterable[str], vocabulary: Vocabulary) -> list[str]:
    """What of an answer its tokens show to be one of `surfaces`, as it stands there, each once."""
    wanted = {tuple(surface.lower().split()) for surface in surfaces}
    sizes = sorted({len(words) for words in wanted}, reverse=True)
    readings = (
        [token.lemma.lower() for token in tokens],
        [vocabulary.folded.singular(token.text) for token in tokens],
    )
    found = (
        answer[tokens[place].start : tokens[place + size - 1].end]
        for place in range(len(tokens))
        for size in sizes
        if place + size <= len(tokens) and any(tuple(words[place : place + size]) in wanted for words in readings)
    )
    return list(dict.fromkeys(found))
