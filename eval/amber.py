"""AMBER: descriptions of 1,004 pictures, and 14,216 yes/no questions about them; no judge.

Source: Wang et al. 2023 (arXiv 2311.07397). `amber_generative` looks for hallucinated nouns (eval.amber_nouns),
`amber_discriminative` for wrong answers, with No as the positive class: it is the answer that resists a hallucination.

`compat`: denominators start at 0.001, so few answers are scored too low; figures are rounded to one decimal, F1 from
rounded precision and recall; an answer is exactly 'Yes' or 'No', or wrong; nouns are looked up in their own case. A
figure about nothing is what the original prints: 0.0, or 100.0 for Hal.
`fixed`: true denominators, nothing rounded, yes and no in the usual spellings, an answer that is neither has failed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.amber_arithmetic import ARITHMETIC, Arithmetic
from eval.amber_nouns import NOUNS, Similar, Tagger, cached, read_words, weigh
from eval.benchmark import Benchmark, Extractor, Item, Mode, Row, Sums, Tools
from eval.files import find, picture_of, read_rows, text_of
from eval.keyed import keyed, partner
from eval.yes_no import NO, YES, yes_or_no
from rlaifv_jax.errors import UserError

OTHER = "other"  # an answer that is neither exactly Yes nor exactly No
KINDS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
GROUPS = tuple(dict.fromkeys(KINDS.values()))
# Title → groups that the original counts together; it adds three counters, with three starts, for Attribute.
DIMENSIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "": (GROUPS,),
    "Existence": (("existence",),),
    "Attribute": (("state",), ("number",), ("action",)),
    "State": (("state",),),
    "Number": (("number",),),
    "Action": (("action",),),
    "Relation": (("relation",),),
}
FIGURES = ("Accuracy", "Precision", "Recall", "F1")


def answer_as_published(text: str) -> str | None:
    return {"Yes": YES, "No": NO}.get(text, OTHER)


PARSERS: dict[Mode, Callable[[str], str | None]] = {"compat": answer_as_published, "fixed": yes_or_no}


class AmberGenerative(Benchmark):
    name, title = "amber_generative", "AMBER (generative)"
    optional_judge, extracts = False, True
    headline = ("CHAIR", "Cover", "Hal", "Cog")
    higher_is_better: Mapping[str, bool] = {"CHAIR": False, "Cover": True, "Hal": False, "Cog": False}

    def items(self, data: Path) -> list[Item]:
        files = _files(data, "query_generative.json", "annotations.json", "relation.json", "safe_words.txt")
        words = read_words(*files[2:])
        vocabulary, safe, items = words.all, list(words.safe), []
        for item, annotation, where in _questions(*files[:2]):
            things = {name: _things(annotation, name, where) for name in ("truth", "hallu")}
            unknown = [thing for thing in things["truth"] + things["hallu"] if thing not in words.related]
            if unknown:
                raise UserError(f"{where}: {files[2]} has no entry {unknown[0]!r}; both must be of one edition")
            related = {thing: list(words.related[thing]) for thing in things["truth"] + things["hallu"]}
            reference = {**things, "related": related, "vocabulary": vocabulary, "safe": safe}
            items.append(Item(**item, category="generative", reference=reference))
        return items

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        tagger, similar = _tagger(tools.extractor), cached(_similar(tools.extractor))
        for row in rows:
            asked = row.item.reference
            nouns = NOUNS[tools.mode](tagger.tokens(row.answer), asked["vocabulary"])
            found = weigh(nouns, asked["truth"], asked["hallu"], asked["related"], asked["safe"], similar)
            row.values = {
                "nouns": [noun.word for noun in nouns],
                "hallucinated": [noun.word for noun in found.hallucinated],
                "covered": [asked["truth"][place] for place in sorted(found.covered)],
                "expected_hallucinations": [asked["hallu"][place] for place in sorted(found.imagined)],
                "truth": asked["truth"],
            }
            row.marked = list(dict.fromkeys(noun.surface for noun in found.hallucinated))

    def counts(self, row: Row) -> dict[str, float]:
        values = row.values
        return {
            "responses": 1,
            "clean": float(not values["hallucinated"]),
            "nouns": len(values["nouns"]),
            "hallucinated": len(values["hallucinated"]),
            "truth": len(values["truth"]),
            "covered": len(values["covered"]),
            "expected": len(row.item.reference["hallu"]),
            "imagined": len(values["expected_hallucinations"]),
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        share = ARITHMETIC[mode].share
        return {
            "CHAIR": share(sums["hallucinated"], [sums["nouns"]]),
            "Cover": share(sums["covered"], [sums["truth"]]),
            "Hal": share(sums["clean"], [sums["responses"]], of_all=100),
            "Cog": share(sums["imagined"], [sums["expected"]]),
        }

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        """By what words were compared, and what that does to the figures."""
        vectors = similarity_of(tools.extractor)
        lost = "; CHAIR is higher and Cover lower than with vectors" if vectors == "none" else ""
        return [f"similarity: {vectors}{lost}", "published figures: NLTK's tags, WordNet's lemmas, en_core_web_lg"]


class AmberDiscriminative(Benchmark):
    name, title = "amber_discriminative", "AMBER (discriminative)"
    headline = ("Accuracy", "F1")
    higher_is_better: Mapping[str, bool] = {
        f"{title} {figure}".lstrip(): True for title in DIMENSIONS for figure in FIGURES
    }

    def items(self, data: Path) -> list[Item]:
        items = []
        for item, annotation, where in _questions(*_files(data, "query_discriminative.json", "annotations.json")):
            kind, truth = text_of(annotation, ("type",), where), text_of(annotation, ("truth",), where)
            if kind not in KINDS:
                raise UserError(f"{where}: 'type' is {kind!r}; it can be {' or '.join(map(repr, KINDS))}")
            if truth not in (YES, NO):
                raise UserError(f"{where}: 'truth' is {truth!r}; it can be 'yes' or 'no'")
            items.append(Item(**item, category=KINDS[kind], reference={"truth": truth}))
        return items

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        parse = PARSERS[tools.mode]
        for row in rows:
            said, truth = parse(row.answer), row.item.reference["truth"]
            if said is None:
                row.failed = "the answer is neither yes nor no"
            else:
                row.values = {"said": said, "truth": truth, "right": said == truth}

    def counts(self, row: Row) -> dict[str, float]:
        said, truth = row.values["said"], row.values["truth"]
        found = {"asked": 1.0, "right": said == truth, "said no": said == NO, "truth no": truth == NO}
        found["right no"] = said == truth == NO
        return {
            f"{group} {name}": float(value and group == row.item.category)
            for group in GROUPS
            for name, value in found.items()
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        return {
            f"{title} {figure}".lstrip(): value
            for title, parts in DIMENSIONS.items()
            for figure, value in zip(FIGURES, _figures(sums, title, parts, ARITHMETIC[mode]), strict=True)
        }


def _figures(sums: Sums, title: str, parts: Sequence[Sequence[str]], arithmetic: Arithmetic) -> tuple[Any, ...]:
    """Accuracy, precision, recall, F1."""

    def of_parts(name: str) -> list[Any]:
        return [sum(sums[f"{group} {name}"] for group in groups) for groups in parts]

    right_no = sum(of_parts("right no"))
    precision = arithmetic.share(right_no, of_parts("said no"))
    recall = arithmetic.share(right_no, of_parts("truth no"))
    accuracy = arithmetic.share(sum(of_parts("right")), of_parts("asked"))
    return accuracy, precision, recall, arithmetic.f1(precision, recall, title)


def similarity_of(extractor: Extractor | None) -> str:
    """The name of an extractor's vectors, 'none' where it has none."""
    return str(getattr(extractor, "similarity", "") or extractor.name) if extractor and _similar(extractor) else "none"


def _similar(extractor: Extractor | None) -> Similar | None:
    return getattr(extractor, "similar", None)


def _tagger(extractor: Extractor | None) -> Tagger:
    if isinstance(extractor, Tagger) and getattr(extractor, "tagged", True):
        return extractor
    given = f"{extractor.name} does not tag words" if extractor else "none is given"
    raise UserError(f"amber_generative needs an extractor that tags words, and {given}; see --extractor in --help")


def _files(data: Path, *names: str) -> list[Path]:
    if data.is_file():
        raise UserError(f"{data} is one file; give the folder of {', '.join(names)}")
    return [find(data, name) for name in names]


def _questions(queries: Path, annotations: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], str]]:
    """(fields of an Item, annotation, where it stands) of every query; by id, whatever the order of the files."""
    notes = keyed(read_rows(annotations), "id", annotations)
    for key, row in keyed(read_rows(queries), "id", queries).items():
        image = text_of(row, ("image",), f"{queries}, id {key}")
        item = {
            "id": key,
            "question": text_of(row, ("query",), f"{queries}, id {key}"),
            "image": picture_of(queries.parent, image),
            "image_id": image,
        }
        yield item, partner(notes, key, annotations, f"{queries.name}, id {key}"), f"{annotations}, id {key}"


def _things(annotation: Mapping[str, Any], name: str, where: str) -> list[str]:
    things = annotation.get(name)
    if not isinstance(things, list) or not all(isinstance(thing, str) for thing in things):
        raise UserError(f"{where}: {name!r} is no list of words")
    return things


AMBER_GENERATIVE, AMBER_DISCRIMINATIVE = AmberGenerative(), AmberDiscriminative()
