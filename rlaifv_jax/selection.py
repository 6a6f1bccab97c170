"""Which checkpoint of a round is the best: functions that `rlaifv_jax.iterate` calls for each of them.

    function(model, work, config) → numbers, of which 'score' decides: the larger the better

model is the checkpoint's directory, work a directory for what the function wants to keep (a checkpoint has one of its
own, so a stopped measurement can go on), config that of the whole command.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.pairs import accepts
from rlaifv_jax.records.shards import read_shards

Measure = Callable[[Path, Path, Any], dict[str, float]]


def newest(model: Path, work: Path, config: Any) -> dict[str, float]:
    """Measures nothing; the last checkpoint wins."""
    return {"score": float(model.name)}


def by_labeler(model: Path, work: Path, config: Any) -> dict[str, float]:
    """Greedy answers to `select.questions`, their claims judged by the labeler: fewest answers with a rejected claim.

    It shares the labeler's blind spots with the training data, and says nothing of answers that claim less; look at
    `claims_an_answer` too.
    """
    from rlaifv_jax.feedback.stages import Feedback

    if not config.select.questions:
        raise UserError(
            "select.questions is not set; give questions that no round asks, or --config.select.function="
            "rlaifv_jax.selection:newest"
        )
    feedback = config.feedback.copy_and_resolve_references()
    with feedback.unlocked():
        feedback.output_dir, feedback.questions, feedback.candidates = str(work), config.select.questions, ""
        feedback.policy.model, feedback.policy.n = str(model), 1
        feedback.policy.temperature, feedback.policy.max_new_tokens = 0.0, config.select.max_new_tokens
    stages = Feedback(feedback)
    for stage in (stages.candidates, stages.divide, stages.question, stages.score):
        stage()
    claims, rejected, faulty = 0, 0, set()
    for record in read_shards(work / "score"):
        if "error" in record:
            continue
        claims += 1
        if not accepts(record["scores"]):
            rejected += 1
            faulty.add(record["question_id"])
    answers = list(read_shards(work / "question"))
    return {
        "score": -len(faulty) / len(answers),
        "answers_with_a_rejected_claim": len(faulty) / len(answers),
        "claims_rejected": rejected / max(claims, 1),
        "claims_an_answer": claims / len(answers),
        "words_an_answer": sum(len(record["answer"].split()) for record in answers) / len(answers),
    }
