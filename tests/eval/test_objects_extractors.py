"""Extractors by name: the lexicon on English, spaCy and NLTK behind stand-ins, the small world's claims."""

import importlib.metadata
import sys
from types import ModuleType, SimpleNamespace

import pytest

from eval.objects.extractors import make_extractor
from eval.objects.extractors.base import ObjectExtractor
from rlaifv_jax.errors import UserError


def surfaces(mentions):
    return [mention.surface for mention in mentions]


@pytest.mark.parametrize("name", ["", "Lexicon", "lexicon:big", "spacy", "spacy:", "shapes:", "en_core_web_trf"])
def test_unknown_names(name):
    with pytest.raises(UserError, match="can be lexicon"):
        make_extractor(name)


@pytest.mark.parametrize("name", ["lexicon", "shapes"])
def test_those_that_need_nothing_are_extractors_and_no_reference(name):
    extractor = make_extractor(name)
    assert isinstance(extractor, ObjectExtractor)
    assert extractor.name == f"{name}-1"
    assert not extractor.is_reference


def test_lexicon_tokens_say_where_they_stand():
    text = "The man's teddy-bears, two well-lit 3.5 m TVs."
    tokens = make_extractor("lexicon").tokens(text)
    assert all(text[token.start : token.end] == token.text for token in tokens)
    assert [(token.lemma, token.tag) for token in tokens] == [
        *[("the", "DT"), ("man", "NN"), ("'s", "POS"), ("teddy", "NN"), ("bear", "NNS"), (",", ".")],
        *[("two", "CD"), ("well-lit", "NN"), ("3.5", "CD"), ("m", "NN"), ("tv", "NNS"), (".", ".")],
    ]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("large wooden tables", ["table"]),
        ("people walking", ["people"]),
        ("man riding a bike", ["man", "bike"]),
        ("potted plants", ["potted plant"]),
        ("dining table", ["dining table"]),
        ("parking meters", ["parking meter"]),
        ("stop sign", ["stop sign"]),
        ("hot-dogs", ["hot dog"]),
        ("bears", ["bear"]),
        ("sinks", ["sink"]),
        ("oranges", ["orange"]),
        ("remote", ["remote"]),
        ("the man's bag", ["man"]),
        ("building", []),
        ("", []),
        ("  ...  ", []),
    ],
)
@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_lexicon_phrases(phrase, expected, mode):
    assert surfaces(make_extractor("lexicon").in_phrases([phrase], mode)) == expected


def test_lexicon_text_and_marks():
    extractor = make_extractor("lexicon")
    answer = "Two Men sit at a dining table.\nA man-made lake, wine glasses and a Puppy; women’s hats"
    mentions = extractor.in_text(answer, "fixed")
    assert surfaces(mentions) == ["man", "dining table", "wine glass", "puppy", "woman"]
    assert extractor.marked(answer, mentions) == ["Men", "dining table", "wine glasses", "Puppy", "women"]
    assert extractor.marked(answer, []) == []


class Said(list):
    """Tokens of a text, which is similar to another as far as their words are the same."""

    def similarity(self, other):
        mine, theirs = ({token.text for token in one} for one in (self, other))
        return len(mine & theirs) / len(mine | theirs)


class Pipeline:
    """As spaCy's: every word a noun but the first; lemmas without the last s."""

    def __init__(self, vectors=0):
        self.meta = {"name": "core_web_trf", "version": "3.7.3"}
        self.vocab = SimpleNamespace(vectors_length=vectors)

    def __call__(self, text):
        place, tokens = 0, Said()
        for number, word in enumerate(text.split()):
            place = text.index(word, place)
            tag = "DT" if not number else "NNP" if word[0].isupper() else "NN"
            tokens.append(SimpleNamespace(text=word, lemma_=word.removesuffix("s"), tag_=tag, idx=place))
        return tokens


@pytest.fixture
def spacy(monkeypatch):
    module = ModuleType("spacy")
    module.__version__ = "3.7.5"

    def load(name):
        if name not in ("en_core_web_trf", "en_core_web_sm", "en_core_web_lg"):
            raise OSError(f"[E050] Can't find model '{name}'.\nIt doesn't seem to be a package.")
        return Pipeline(vectors=300 if name.endswith("lg") else 0)

    module.load = load
    monkeypatch.setitem(sys.modules, "spacy", module)
    return module


def test_only_one_pipeline_is_the_reference(spacy):
    reference, other = make_extractor("spacy:en_core_web_trf"), make_extractor("spacy:en_core_web_sm")
    assert (reference.name, reference.is_reference) == ("spacy:en_core_web_trf-3.7.3", True)
    assert (other.name, other.is_reference) == ("spacy:en_core_web_sm-3.7.3", False)


def test_vectors_tell_what_is_similar(spacy):
    large, small = make_extractor("spacy:en_core_web_lg"), make_extractor("spacy:en_core_web_sm")
    assert large.similar("red dog", "red cat") == pytest.approx(1 / 3)
    assert (large.similarity, small.similarity, small.similar) == (large.name, "", None)


def test_spacys_own_lemmas_and_tags_count_as_published(spacy):
    extractor = make_extractor("spacy:en_core_web_trf")
    listed = ["dogs", "scissors", "Dog", "water bottle"]
    assert surfaces(extractor.in_phrases(listed, "compat")) == ["dog"]
    assert surfaces(extractor.in_phrases(listed, "fixed")) == ["dog", "scissors", "bottle"]
    assert extractor.marked("All Dogs bark", extractor.in_phrases(["dogs"], "compat")) == ["Dogs"]


def test_a_missing_pipeline_is_not_replaced(spacy):
    with pytest.raises(UserError, match=r"python -m spacy download en_core_web_md.*not spaCy's") as raised:
        make_extractor("spacy:en_core_web_md")
    assert "\n" not in str(raised.value)


def test_a_package_that_only_bears_the_name_is_not_even_imported(spacy, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "999.9.9")
    monkeypatch.setattr(spacy, "load", lambda name: pytest.fail("imported"))
    with pytest.raises(UserError, match=r"999\.9\.9, is not spaCy's"):
        make_extractor("spacy:en_core_web_trf")


def test_a_pipeline_without_lemmas_is_refused(spacy, monkeypatch):
    blank = [SimpleNamespace(text="two", lemma_="", tag_="", idx=0)]
    monkeypatch.setattr(spacy, "load", lambda name: lambda text: blank)
    with pytest.raises(UserError, match="no tags or no lemmas"):
        make_extractor("spacy:en_core_web_sm")


@pytest.mark.parametrize(("name", "package"), [("spacy:en_core_web_trf", "spacy"), ("nltk", "nltk")])
def test_packages_that_are_not_installed(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        make_extractor(name)


@pytest.fixture
def nltk(monkeypatch):
    module, stem = ModuleType("nltk"), ModuleType("nltk.stem")
    module.__version__ = "3.8.1"
    module.word_tokenize = lambda text: text.replace('"', " `` ").replace(".", " .").split()
    stem.WordNetLemmatizer = lambda: SimpleNamespace(lemmatize=lambda word: {"vases": "vas"}.get(word, word[:3]))
    monkeypatch.setitem(sys.modules, "nltk", module)
    monkeypatch.setitem(sys.modules, "nltk.stem", stem)
    return module


def test_nltk_reads_captions_and_no_phrases(nltk):
    extractor = make_extractor("nltk")
    assert (extractor.name, extractor.is_reference) == ("nltk-3.8.1", False)
    assert surfaces(extractor.in_text('A "dogs" and vases.', "compat")) == ["dog"]
    assert surfaces(extractor.in_text('A "dogs" and vases.', "fixed")) == ["dog", "vase"]
    assert extractor.marked('A "dogs" and', extractor.in_text("dogs", "compat")) == ["dogs"]
    with pytest.raises(UserError, match="does not tag"):
        extractor.in_phrases(["dog"], "compat")


def test_nltk_without_its_data(nltk, monkeypatch):
    def missing(text):
        raise LookupError("Resource punkt not found\n" * 10)

    monkeypatch.setattr(nltk, "word_tokenize", missing)
    with pytest.raises(UserError, match=r"nltk\.downloader"):
        make_extractor("nltk")


def test_claims_of_the_small_world():
    extractor = make_extractor("shapes")
    text = "There is a small red star in the top left . nonsense. i see a small red star at the top left"
    mentions = extractor.in_text(text, "compat")
    assert [mention.canonical for mention in mentions] == [
        "small red star top left",
        "unreadable",
        "small red star top left",
    ]
    assert extractor.marked(text, mentions[1:2]) == ["nonsense"]
    assert extractor.in_text(" . ", "fixed") == []


def test_claims_are_not_what_a_judge_lists():
    with pytest.raises(UserError, match="leave the judge away"):
        make_extractor("shapes").in_phrases([], "compat")
