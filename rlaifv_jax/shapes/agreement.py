"""How often a labeler is right about claims whose truth is known, by the kind of what is wrong with them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.feedback import labeler
from rlaifv_jax.feedback.rules import accepts
from rlaifv_jax.sampling.forward import Forward
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.shapes.captions import error_kind
from rlaifv_jax.shapes.datasets import HeldOut
from rlaifv_jax.shapes.questions import NEAR_MISSES, ask_if, near_miss
from rlaifv_jax.shapes.scene import Thing

TRUE = "true"
Agreement = dict[str, tuple[int, int]]  # kind → (claims that were judged rightly, claims)


def agree(model: Path, examples: Sequence[HeldOut], seed: int) -> Agreement:
    """Ask a labeler about every thing of every scene, and about a near miss of every kind."""
    claims: list[list[tuple[str, Thing]]] = []
    for number, example in enumerate(examples):
        rng = np.random.default_rng([seed, number])
        misses = [(kind, near_miss(example.scene, rng, kind)) for kind in NEAR_MISSES]
        claims.append([*((TRUE, thing) for thing in example.scene), *misses])
    speaker = Speaker(model, dtype="float32")
    tokens = labeler.answer_tokens(speaker.prompter, str(model))

    def ask(example: HeldOut, each: list[tuple[str, Thing]]) -> Encoded:
        picture = speaker.prompter.placement(lambda: example.image.size)
        questions = [speaker.prompter.encode([Turn("user", ask_if(claim))], picture) for _, claim in each]
        return labeler.branched(speaker.prompter, questions)

    asked = [ask(example, each) for example, each in zip(examples, claims, strict=True)]
    found = Forward.of(speaker).next_tokens(
        asked,
        lambda number: speaker.prompter.tiles(examples[number].image),
        set(range(len(examples))),
        tokens.known,
        row_length=1024,
        longest_row=1024,
    )
    right, all_claims = Counter[str](), Counter[str]()
    for number, verdicts in found:
        for (kind, _), verdict in zip(claims[number], verdicts, strict=True):  # type: ignore[arg-type]  # none failed
            all_claims[kind] += 1
            right[kind] += accepts(tokens.scores(verdict.chances)) == (kind == TRUE)
    return {kind: (right[kind], all_claims[kind]) for kind in (TRUE, *NEAR_MISSES)}


def of_feedback(feedback: Sequence[dict[str, Any]], scenes: dict[str, Any]) -> Agreement:
    """The same of feedback records about captions. scenes: by ds_question_id."""
    from rlaifv_jax.shapes.captions import parse

    right, all_claims = Counter[str](), Counter[str]()
    for record in feedback:
        things = parse(record["metainfos"]["metainfos"]["origin_fact"]).claims
        kind = (error_kind(scenes[record["ds_question_id"]], things[0]) or TRUE) if things else "malformed"
        all_claims[kind] += 1
        right[kind] += accepts(record["scores"]) == (kind == TRUE)
    return {kind: (right[kind], count) for kind, count in sorted(all_claims.items())}


def overall(found: Agreement) -> float:
    """Share of all claims."""
    right, count = np.sum(list(found.values()), axis=0)
    return float(right / count)


def table(found: Agreement) -> str:
    """A line a kind, for a terminal."""
    lines = [f"{kind:<16}{right / count:>8.1%}  of {count}" for kind, (right, count) in found.items()]
    return "\n".join([*lines, f"{'all':<16}{overall(found):>8.1%}"])
