"""Records of the feedback stages, made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]
YES, NO = {"yes": 0.9, "Yes": 0.0, "no": 0.1, "No": 0.0}, {"yes": 0.1, "Yes": 0.0, "no": 0.9, "No": 0.0}


def answer(
    number: Any,
    claims: Sequence[str],
    *,
    text: str | None = None,
    group: Any = "a",
    question: str = "q",
    picture: str = "",
    **more: Any,
) -> Record:
    """An answer with a question for each of its claims, as the question stage writes it."""
    return {
        "question_id": number,
        "ds_question_id": group,
        "raw_question": question,
        "answer": f"answer {number}" if text is None else text,
        "metainfos": {
            "ds_question_id": group,
            "image_path": f"{picture or group}.png",
            "metainfos": {"reference": "ref"},
        },
        "model_path": "policy",
        "facts": list(claims),
        "changed_facts": [f"{claim}?" for claim in claims],
        **more,
    }


def verdicts(record: Record, scores: Sequence[Mapping[str, float] | bool], **more: Any) -> list[Record]:
    """Feedback on the claims of an answer, one for each score."""
    asked = record["changed_facts"]
    return [
        {
            "question_id": record["question_id"],
            "ds_question_id": record["ds_question_id"],
            "raw_question": f"{asked[place % max(len(asked), 1)]} Please answer yes or no.",
            "answer": "",
            "scores": dict(YES if score is True else NO if score is False else score),
            "metainfos": {
                "ds_question_id": record["ds_question_id"],
                "metainfos": {"origin_question": record["raw_question"], "origin_answer": record["answer"]},
            },
            "model_path": "labeler",
            **more,
        }
        for place, score in enumerate(scores)
    ]


def judged(*answers: tuple[Record, Sequence[Mapping[str, float] | bool]]) -> tuple[list[Record], list[Record]]:
    """(answers, all feedback)."""
    return [record for record, _ in answers], [one for record, scores in answers for one in verdicts(record, scores)]
