"""Which checkpoint of a round is the best: functions that `rlaifv_jax.iterate` calls for each of them.

    function(model, work, config) → numbers, of which 'score' decides: the larger the better

model is the checkpoint's directory, work a directory for what the function wants to keep (a checkpoint has one of its
own, so a stopped measurement can go on), config that of the whole command.
"""

from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.rules import accepts
from rlaifv_jax.records.shards import read_shards


def newest(model: Path, work: Path, config: Any) -> dict[str, float]:
    """Measures nothing; the last checkpoint wins."""
    return {"score": float(model.name)}


def by_labeler(model: Path, work: Path, config: Any) -> dict[str, float]:
    """Greedy answers to `select.questions`, their claims judged by the labeler: most answers that claim something of
    which nothing is rejected. Answers that could not be judged do not count.

    It shares the labeler's blind spots with the training data, and says nothing of answers that claim less; look at
    `claims_an_answer` too. Raises `UserError` where not one answer could be judged.
    """
    from rlaifv_jax.feedback.chain import Feedback

    feedback = config.feedback.copy_and_resolve_references()
    with feedback.unlocked():
        feedback.output_dir, feedback.questions, feedback.candidates = str(work), config.select.questions, ""
        feedback.policy.model, feedback.policy.n = str(model), 1
        feedback.policy.temperature, feedback.policy.max_new_tokens = 0.0, config.select.max_new_tokens
    stages = Feedback(feedback)
    for stage in (stages.candidates, stages.divide, stages.question, stages.score):
        stage()
    answers = {str(record["question_id"]): record for record in read_shards(work / "question")}
    verdicts: dict[str, list[bool | None]] = {number: [] for number in answers}
    for record in read_shards(work / "score"):
        verdicts[str(record["question_id"])].append(None if record.get("error") else accepts(record["scores"]))
    judged = {
        number: accepted
        for number, accepted in verdicts.items()
        if not answers[number].get("error") and None not in accepted
    }
    if not judged:
        raise UserError(f"select.questions: not one of {len(answers)} answers could be judged, see {work}")
    claims = [accepted for each in judged.values() for accepted in each]
    return {
        "score": sum(bool(each) and all(each) for each in judged.values()) / len(judged),
        "answers": len(judged),
        "answers_with_a_rejected_claim": sum(not all(each) for each in judged.values()) / len(judged),
        "answers_without_a_claim": sum(not each for each in judged.values()) / len(judged),
        "answers_not_judged": (len(answers) - len(judged)) / len(answers),
        "claims_rejected": claims.count(False) / max(len(claims), 1),
        "claims_an_answer": len(claims) / len(judged),
        "words_an_answer": sum(len(answers[number]["answer"].split()) for number in judged) / len(judged),
    }
