"""The packaged vocabulary, its plurals, and what is refused."""

from pathlib import Path

import pytest

from eval.objects import vocabulary
from eval.objects.lemmas import singular
from rlaifv_jax.errors import UserError

GIVEN = Path(__file__).parents[2].parent / "shared" / "data" / "eval" / "synonyms_refine.txt"
WORDS = vocabulary.load()
# Plurals already, or without one; doggies are of doggy as well.
NO_PLURAL = {"people", "children", "oxen", "cattle", "sheep", "buffalo", "bison", "luggage", "broccoli", "scissors"} | {
    *("doggie", "brindle", "feline", "canine", "lenovo", "cocker", "phon", "knive", "waterfowl", "peafowl", "fowl"),
}
ODD = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "grandchild": "grandchildren",
    "ox": "oxen",
    "policeman": "policemen",
    "serviceman": "servicemen",
    "gentleman": "gentlemen",
    "goose": "geese",
    "mouse": "mice",
    "knife": "knives",
    "pocketknife": "pocketknives",
    "calf": "calves",
    "thief": "thieves",
    "glass": "glasses",
    "bus": "buses",
    "minibus": "minibuses",
    "airbus": "airbuses",
    "husky": "huskies",
    "ski": "skis",
}
ODD_BACK = {many: one for one, many in ODD.items()}


def plural(word: str) -> str:
    if word in ODD:
        return ODD[word]
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def test_there_are_80_classes_of_407_entries_none_in_two():
    assert len(WORDS.canonical) == 407
    assert len(set(WORDS.canonical.values())) == 80
    assert sum(" " in entry for entry in WORDS.canonical) == 28
    assert all(WORDS.canonical[name] == name for name in WORDS.canonical.values())


@pytest.mark.skipif(not GIVEN.exists(), reason="the shared evaluation files are not here")
def test_it_is_the_one_that_evaluations_use():
    assert vocabulary.parse(GIVEN.read_text()) == WORDS.canonical


def test_pairs_of_which_one_word_counts():
    joined = WORDS.joined
    assert joined["hot dog"] == "hot dog"
    assert joined["baby zebra"] == "zebra"
    assert joined["adult cub"] == "cub"
    assert joined["toilet seat"] == "toilet"
    assert joined["train track"] == "train track"
    assert "train track" not in WORDS.canonical
    assert "baby person" not in joined
    assert len(joined) == 28 + 2 + 24 + 4  # `bow tie` is an entry, too


def test_a_licence_lies_beside_it():
    assert "BSD 2-Clause" in (vocabulary.FILE.parent / "VOCABULARY_LICENSE").read_text()


@pytest.mark.parametrize("text", ["dog, pup\ncat, dog", "dog,, pup", "dog\n\ncat"])
def test_a_damaged_vocabulary_is_refused(text):
    with pytest.raises(UserError, match="vocabulary, line"):
        vocabulary.parse(text)


def test_every_word_and_its_plural_come_back_to_it():
    words = WORDS.folded.words - {"glas"}
    for word in sorted(words):
        assert singular(word, WORDS.folded.words) == ODD_BACK.get(word, word)
        if word not in NO_PLURAL:
            assert singular(plural(word), WORDS.folded.words) == word, plural(word)
            assert singular(plural(word).upper(), WORDS.folded.words) == word


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("scissors", "scissors"),
        ("vases", "vase"),
        ("glasses", "glass"),
        ("men", "man"),
        ("firemen", "fireman"),
        ("buses", "bus"),
        ("bus", "bus"),
        ("sheep", "sheep"),
        ("skis", "ski"),
        ("taxis", "taxi"),
        ("TVs", "tv"),
        ("firetrucks", "firetruck"),
        ("skies", "sky"),  # not ski
        ("grass", "grass"),
        ("gas", "gas"),
        ("tennis", "tennis"),
        ("specimen", "specimen"),
        ("leaves", "leaf"),
        ("dresses", "dress"),
        ("flies", "fly"),
        ("pies", "pie"),
        ("potatoes", "potato"),
        ("this", "this"),
    ],
)
def test_singulars(word, expected):
    assert singular(word, WORDS.words) == expected
