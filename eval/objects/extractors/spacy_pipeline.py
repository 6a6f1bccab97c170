"""spaCy pipelines, which have to be installed by hand."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from eval.objects import vocabulary
from eval.objects.extractors.base import ByTokens
from eval.objects.match import Token
from rlaifv_jax.errors import UserError

REFERENCE = "en_core_web_trf"
WARNING = "not `pip install` by its name: the package of that name on the registry is not spaCy's"


class SpacyAnalyzer:
    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def tokens(self, text: str) -> Sequence[Token]:
        return [Token(token.text, token.lemma_, token.tag_, token.idx) for token in self.pipeline(text)]

    def similar(self, one: str, other: str) -> float:
        return float(self.pipeline(one).similarity(self.pipeline(other)))


def spacy_pipeline(name: str) -> ByTokens:
    """The installed pipeline of a name, or in a folder.

    Raises:
      UserError: spaCy or the pipeline is not installed, is not spaCy's, or has no tagger or no lemmatizer.
    """
    try:
        spacy = importlib.import_module("spacy")
    except ImportError:
        raise UserError(f"spacy:{name}: spaCy is not installed; pip install spacy") from None
    _refuse_impostor(name, spacy.__version__)
    try:
        pipeline = spacy.load(name)
    except (OSError, ImportError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"spacy:{name}: cannot be loaded ({first}); `python -m spacy download {name}` gets spaCy's own; {WARNING}"
        ) from None
    probe = list(pipeline("two dogs"))
    if not all(token.tag_ and token.lemma_ for token in probe):
        raise UserError(f"spacy:{name}: gives no tags or no lemmas; choose a pipeline with a tagger and a lemmatizer")
    meta = pipeline.meta
    own = Path(name).name if Path(name).exists() else name
    version = meta.get("version", "?")
    analyzer, full = SpacyAnalyzer(pipeline), f"spacy:{own}-{version}"
    found = ByTokens(full, name == REFERENCE, analyzer, vocabulary.load())
    if pipeline.vocab.vectors_length:
        found = replace(found, similar=analyzer.similar, similarity=full)
    return found


def _refuse_impostor(name: str, version: str) -> None:
    """spaCy numbers its pipelines as itself. What is not is not even imported."""
    try:
        installed = metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return
    if installed.split(".")[0] != version.split(".")[0]:
        raise UserError(
            f"spacy:{name}: the installed package of that name, version {installed}, is not spaCy's; remove it, then "
            f"`python -m spacy download {name}`, {WARNING}"
        )
