"""AMBER: nouns weighed against a picture, both arithmetics, exact and tolerant yes and no, files paired by id."""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.amber import AMBER_DISCRIMINATIVE, AMBER_GENERATIVE, PARSERS
from eval.amber_nouns import Noun, cached, weigh
from eval.benchmark import Item, Row, Tools
from eval.scores import metrics_of
from rlaifv_jax.errors import UserError

RELATED = {
    "ship": ["boat"],
    "man": ["person"],
    "person": ["man", "boy"],
    "sky": [],
    "dog": [],
    "sign": ["pole"],
    "TV": [],
}
VOCABULARY = list(dict.fromkeys(word for thing, others in RELATED.items() for word in (thing, *others)))


@dataclass(frozen=True)
class Word:
    text: str
    lemma: str
    tag: str


@dataclass
class Lists:
    """Reads 'text/lemma/TAG' between blanks."""

    name: str = "lists-1"
    is_reference: bool = False
    tagged: bool = True

    def tokens(self, text):
        return [Word(*word.split("/")) for word in text.split()]


@dataclass
class Vectors(Lists):
    similarity: str = "en_core_web_lg"
    pairs: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def similar(self, one, other):
        self.asked.append((one, other))
        return 1.0 if one == other else self.pairs.get((one, other))


def nouns(words):
    return " ".join(f"{word}/{word}/NN" for word in words.split())


def described(answer, truth=("ship", "sky"), hallu=("dog",)):
    reference = {
        "truth": list(truth),
        "hallu": list(hallu),
        "related": RELATED,
        "vocabulary": VOCABULARY,
        "safe": ["sign"],
    }
    return Row(Item("1", "Describe this image.", reference=reference), answer)


def examined(answer, mode="compat", extractor=None, **picture):
    row = described(answer, **picture)
    AMBER_GENERATIVE.examine([row], Tools(mode, extractor=extractor or Lists()))
    return row


def scored(benchmark, rows, mode, **tools):
    benchmark.examine(rows, Tools(mode, **tools))
    return metrics_of(benchmark, [benchmark.counts(row) for row in rows if not row.failed], mode)


def test_nouns_of_the_vocabulary_stand_for_things_that_are_there_or_not():
    row = examined(
        "boats/boat/NNS fly/fly/VB dog/dog/VB Dogs/dog/NNS sky/sky/NN clouds/cloud/NNS sign/sign/NN man/man/NN"
    )
    assert row.values == {
        "nouns": ["boat", "dog", "sky", "sign", "man"],
        "hallucinated": ["dog", "man"],
        "covered": ["ship", "sky"],
        "expected_hallucinations": ["dog"],
        "truth": ["ship", "sky"],
    }
    assert row.marked == ["Dogs", "man"]


def test_capital_letters_are_lost_as_published_only():
    answer = "Dog/Dog/NNP tv/tv/NN TV/TV/NN"
    assert examined(answer, "compat").values["nouns"] == ["TV"]
    assert examined(answer, "fixed").values["nouns"] == ["dog", "TV", "TV"]


@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_an_association_goes_before_the_word_itself_and_equal_things_are_named_once(mode):
    assert examined(nouns("man"), mode, truth=("man", "person")).values["covered"] == ["person"]
    row = examined(nouns("ship ship"), mode, truth=("ship", "ship"))
    assert (row.values["covered"], AMBER_GENERATIVE.counts(row)["truth"]) == (["ship"], 2)


def test_safe_words_are_neither_hallucinated_nor_named_but_counted():
    row = examined(nouns("sign"), truth=("sign",))
    assert (row.values["covered"], row.values["hallucinated"], row.values["nouns"]) == ([], [], ["sign"])


def test_similar_words():
    vectors = Vectors(pairs={("boy", "man"): 0.81, ("pole", "dog"): 0.9, ("pole", "ship"): 0.8, ("boy", "dog"): 0.85})
    row = examined(nouns("boy pole boy"), extractor=vectors, truth=("ship", "man"), hallu=("dog",))
    # 'boy' ticks what it hallucinates before it is found to be a man; 0.8 is not above 0.8
    assert row.values["covered"] == ["man"]
    assert row.values["hallucinated"] == ["pole"]
    assert row.values["expected_hallucinations"] == ["dog"]
    assert len(vectors.asked) == len(set(vectors.asked))


def test_the_same_and_a_similar_expected_thing_both_count():
    vectors = Vectors(pairs={("dog", "sky"): 0.9})
    row = examined(nouns("dog"), extractor=vectors, truth=("ship",), hallu=("sky", "dog"))
    assert row.values["expected_hallucinations"] == ["sky", "dog"]


def test_what_words_are_compared_by_is_noted():
    assert AMBER_GENERATIVE.notes([], Tools("compat", extractor=Lists()))[0].startswith(
        "similarity: none; CHAIR is higher"
    )
    assert AMBER_GENERATIVE.notes([], Tools("compat", extractor=Vectors()))[0] == "similarity: en_core_web_lg"


@pytest.mark.parametrize(
    "extractor", [None, Lists(tagged=False), object.__new__(type("Other", (), {"name": "shapes"}))]
)
def test_an_extractor_that_tags_is_needed(extractor):
    with pytest.raises(UserError, match="tags words"):
        AMBER_GENERATIVE.examine([], Tools("compat", extractor=extractor))


def test_generative_figures():
    rows = [described(nouns("ship dog")), described(nouns("sky ship")), described(nouns("dog man"))]
    # 6 nouns, 3 hallucinated; 1 + 2 + 0 of 6 true things; 1 of 3 clean; 2 of 3 expected hallucinations
    published, mended = (scored(AMBER_GENERATIVE, rows, mode, extractor=Lists()) for mode in ("compat", "fixed"))
    assert published == {"CHAIR": 50.0, "Cover": 50.0, "Hal": 66.7, "Cog": 66.6}
    assert mended == pytest.approx({"CHAIR": 50, "Cover": 50, "Hal": 200 / 3, "Cog": 200 / 3})


def test_denominators_that_start_above_zero():
    rows = [described(nouns("dog"))]
    assert scored(AMBER_GENERATIVE, rows, "compat", extractor=Lists()) == {
        "CHAIR": 99.9,
        "Cover": 0,
        "Hal": 100,
        "Cog": 99.9,
    }
    rows = [described("")]
    published, mended = (scored(AMBER_GENERATIVE, rows, mode, extractor=Lists()) for mode in ("compat", "fixed"))
    assert published == {"CHAIR": 0, "Cover": 0, "Hal": 0.1, "Cog": 0}
    assert mended == {"CHAIR": None, "Cover": 0, "Hal": 0, "Cog": 0}


words = st.lists(st.sampled_from(VOCABULARY), max_size=6)
things = st.lists(st.sampled_from(list(RELATED)), max_size=4)


@given(
    words,
    things,
    things,
    st.dictionaries(st.tuples(st.sampled_from(VOCABULARY), st.sampled_from(VOCABULARY)), st.floats(-1, 1)),
)
def test_what_is_hallucinated_fits_nothing_and_what_is_spared_fits_something(said, truth, hallu, pairs):
    def fits(noun, thing):
        return noun in RELATED[thing] or noun == thing

    def alike(noun, word):
        return pairs.get((noun, word), 0) > 0.8

    found = weigh([Noun(w, w) for w in said], truth, hallu, RELATED, ["sign"], cached(lambda a, b: pairs.get((a, b))))
    for noun in {noun.word for noun in found.hallucinated}:
        assert noun != "sign"
        assert not any(fits(noun, thing) for thing in truth)
        assert not any(alike(noun, word) for thing in truth for word in (thing, *RELATED[thing]))
    spared = [w for w in said if w not in {noun.word for noun in found.hallucinated} and w != "sign"]
    for noun in spared:
        assert any(fits(noun, t) or any(alike(noun, word) for word in (t, *RELATED[t])) for t in truth)
    assert bool(spared) == bool(found.covered)
    assert len(found.covered) <= len(set(spared))


@pytest.mark.parametrize(
    ("text", "published", "mended"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("yes", "other", "yes"),
        ("No.", "other", "no"),
        ("No, there is not", "other", "no"),
        ("Maybe", "other", None),
        ("", "other", None),
    ],
)
def test_answers(text, published, mended):
    assert PARSERS["compat"](text) == published
    assert PARSERS["fixed"](text) == mended


def asked(kind, truth, answer):
    return Row(Item("1", "?", category=kind, reference={"truth": truth}), answer)


def test_discriminative_figures():
    rows = [
        asked("state", "no", "No"),
        asked("state", "no", "no"),
        asked("state", "yes", "No"),
        asked("number", "no", "No"),
    ]
    rows += [asked("existence", "no", "No"), asked("relation", "yes", "Yes"), asked("action", "yes", "perhaps")]
    published = scored(AMBER_DISCRIMINATIVE, rows, "compat")
    assert published["Accuracy"] == round(4 / 7.001 * 100, 1)
    assert (published["Precision"], published["Recall"]) == (75.0, 75.0)
    assert published["F1"] == round(2 * 0.75 * 0.75 / 1.5001 * 100, 1)
    # three counters for attributes: 5.003
    assert published["Attribute Accuracy"] == round(2 / 5.003 * 100, 1)
    assert published["State Recall"] == round(1 / 2.001 * 100, 1)
    assert (published["Existence Accuracy"], published["Existence F1"]) == (99.9, round(2 * 0.999**2 / 1.999 * 100, 1))
    assert published["Relation Recall"] == published["Relation F1"] == 0
    mended = scored(AMBER_DISCRIMINATIVE, rows, "fixed")
    assert [row.failed != "" for row in rows] == [False] * 6 + [True]
    assert mended["Accuracy"] == pytest.approx(100 * 5 / 6)
    assert (mended["Precision"], mended["Recall"]) == (80, 100)
    assert mended["F1"] == pytest.approx(2 * 80 * 100 / 180)
    assert mended["Existence F1"] == 100
    assert mended["Relation F1"] is mended["Action Accuracy"] is None
    assert published.keys() == mended.keys() == AMBER_DISCRIMINATIVE.higher_is_better.keys()


def test_two_of_three_as_published():
    rows = [asked("state", "no", answer) for answer in ("No", "No", "Yes")]
    assert scored(AMBER_DISCRIMINATIVE, rows, "compat")["State Recall"] == 66.6
    assert scored(AMBER_DISCRIMINATIVE, rows, "fixed")["State Recall"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_metrics_of_arrays_are_those_of_each(mode):
    rows = [
        asked(kind, truth, said) for kind in ("state", "relation") for truth in ("yes", "no") for said in ("Yes", "No")
    ]
    AMBER_DISCRIMINATIVE.examine(rows, Tools(mode))
    counts = [AMBER_DISCRIMINATIVE.counts(row) for row in rows]
    drawn = np.array([[1] * 8, [0, 3, 0, 2, 1, 0, 1, 1]])
    table = {name: drawn @ [one[name] for one in counts] for name in counts[0]}
    many = AMBER_DISCRIMINATIVE.metrics(table, mode)
    for place in (0, 1):
        one = AMBER_DISCRIMINATIVE.metrics({name: values[place] for name, values in table.items()}, mode)
        for name, value in one.items():
            assert float(value) == many[name][place] or (math.isnan(value) and math.isnan(many[name][place]))


def write(folder, **more):
    queries = [{"id": 2, "image": "AMBER_2.jpg", "query": "Describe this image."}]
    yes_no = [
        {"id": 7, "image": "AMBER_2.jpg", "query": "Is it red?"},
        {"id": 5, "image": "AMBER_2.jpg", "query": "One?"},
    ]
    notes = [
        {"id": 5, "type": "discriminative-relation", "truth": "yes"},
        {"id": 7, "type": "discriminative-hallucination", "truth": "no"},
        {"id": 2, "type": "generative", "truth": ["ship", "sky"], "hallu": ["dog"]},
    ]
    content = {
        "query_generative.json": queries,
        "query_discriminative.json": yes_no,
        "annotations.json": notes,
        "relation.json": RELATED,
        **more,
    }
    for name, value in content.items():
        (folder / name).write_text(json.dumps(value, indent=4))
    (folder / "safe_words.txt").write_text("sign\nlight")


def test_files_are_paired_by_id(tmp_path):
    write(tmp_path)
    item, *others = AMBER_GENERATIVE.items(tmp_path)
    assert not others
    assert (item.id, item.image_id, item.question) == ("2", "AMBER_2.jpg", "Describe this image.")
    assert item.reference["truth"] == ["ship", "sky"]
    assert item.reference["vocabulary"] == VOCABULARY
    assert item.reference["safe"] == ["sign", "light"]
    row = Row(item, nouns("boat dog light"))
    assert scored(AMBER_GENERATIVE, [row], "fixed", extractor=Lists())["Cover"] == 50
    found = [(item.id, item.category, item.reference) for item in AMBER_DISCRIMINATIVE.items(tmp_path)]
    assert found == [("7", "existence", {"truth": "no"}), ("5", "relation", {"truth": "yes"})]


@pytest.mark.parametrize(
    ("benchmark", "name", "value", "match"),
    [
        (AMBER_GENERATIVE, "annotations.json", [{"id": 1}], "has no row 2"),
        (AMBER_GENERATIVE, "annotations.json", [{"id": 2, "truth": "sky", "hallu": []}], "'truth' is no list"),
        (AMBER_GENERATIVE, "relation.json", {"ship": []}, "has no entry 'sky'"),
        (AMBER_GENERATIVE, "relation.json", {"ship": "boat"}, "lists of words"),
        (AMBER_DISCRIMINATIVE, "annotations.json", [{"id": 7, "type": "x", "truth": "no"}], "'type' is 'x'"),
        (AMBER_DISCRIMINATIVE, "annotations.json", [{"id": 7, "type": "relation", "truth": "No"}], "'truth' is 'No'"),
        (AMBER_DISCRIMINATIVE, "annotations.json", [{"id": 7}, {"id": 7}], "id 7 stands there twice"),
    ],
)
def test_bad_files(tmp_path, benchmark, name, value, match):
    write(tmp_path, **{name: value})
    with pytest.raises(UserError, match=match):
        benchmark.items(tmp_path)


def test_files_that_are_missing(tmp_path):
    with pytest.raises(UserError, match="query_generative"):
        AMBER_GENERATIVE.items(tmp_path)
    write(tmp_path)
    with pytest.raises(UserError, match="give the folder"):
        AMBER_DISCRIMINATIVE.items(tmp_path / "annotations.json")
    (tmp_path / "relation.json").write_text("{")
    with pytest.raises(UserError, match=r"relation\.json"):
        AMBER_GENERATIVE.items(tmp_path)
