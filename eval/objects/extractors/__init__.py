"""Who finds the objects in a text, by name.

`lexicon` comes with this package; `spacy:PIPELINE` is spaCy, with whose en_core_web_trf the published figures were
made; `nltk` is what the original reads reference captions with; `shapes` reads the small world's claims.
"""

from collections.abc import Callable

from eval.objects.extractors.base import ObjectExtractor
from eval.objects.extractors.lexicon import lexicon
from eval.objects.extractors.shapes import Shapes
from eval.objects.extractors.spacy_pipeline import spacy_pipeline
from eval.objects.extractors.wordnet import wordnet
from rlaifv_jax.errors import UserError

MAKERS: dict[str, Callable[[str], ObjectExtractor]] = {
    "lexicon": lambda _: lexicon(),
    "nltk": lambda _: wordnet(),
    "shapes": lambda _: Shapes(),
    "spacy": spacy_pipeline,
}
DEFAULT = "lexicon"


def make_extractor(text: str) -> ObjectExtractor:
    """From 'lexicon', 'nltk', 'shapes' or 'spacy:PIPELINE'. There is never another in its place.

    Raises:
      UserError: no such extractor, or what it needs is not installed.
    """
    prefix, colon, name = text.partition(":")
    if prefix not in MAKERS or bool(name) != (prefix == "spacy") or bool(colon) != bool(name):
        raise UserError(f"--extractor {text}: can be lexicon, nltk, shapes or spacy:PIPELINE, as spacy:en_core_web_trf")
    return MAKERS[prefix](name)
