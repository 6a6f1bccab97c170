"""Singulars of English nouns, by their endings and a table of exceptions.

All that matters is which words they make of plurals that a vocabulary has, and that they make these of no others.
"""

from functools import lru_cache

_PLURALS = """
    men man women woman children child feet foot teeth tooth geese goose mice mouse oxen ox knives knife
    pocketknives pocketknife leaves leaf loaves loaf shelves shelf wolves wolf scarves scarf lives life wives wife
    shoes shoe toes toe busses bus gases gas lenses lens skis ski"""
_words = _PLURALS.split()
IRREGULAR = dict(zip(_words[::2], _words[1::2], strict=True))
_UNCHANGED = "as gas has his its lens news series species trousers jeans pants shorts clothes"
UNCHANGED = frozenset(_UNCHANGED.split())
NOT_MAN = ("omen", "specimen", "abdomen", "regimen", "ramen", "amen")  # end like men, and are one


@lru_cache(maxsize=1 << 16)
def singular(word: str, known: frozenset[str]) -> str:
    """Of a noun in whatever case, in small letters; a singular comes back as it is.

    known: words that are right as they are, in their own case, and singulars to be preferred to others.
    """
    if word.lower() in IRREGULAR:
        return IRREGULAR[word.lower()]
    if word in known:
        return word
    word = word.lower()
    if word in known:
        return word
    if word.endswith("men") and not word.endswith(NOT_MAN):
        return word[:-2] + "an"
    if word.endswith("children"):
        return word.removesuffix("ren")
    if not word.endswith("s"):
        return word
    possible = _possible(word)
    if any(one in known for one in possible):
        return next(one for one in possible if one in known)
    if word in UNCHANGED or len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    return possible[0]


def _possible(word: str) -> list[str]:
    """Singulars of a word that ends in s, the likeliest first."""
    bare = word[:-1]
    if word.endswith("ies"):
        return [bare, word[:-3] + "y"] if len(word) == 4 else [word[:-3] + "y", bare]
    if word.endswith(("oes", "sses", "xes", "zes", "ches", "shes")):
        return [word[:-2], bare]
    if word.endswith("ves"):
        return [bare, word[:-3] + "f", word[:-3] + "fe"]
    return [bare, word[:-2]] if word.endswith("ses") else [bare]
