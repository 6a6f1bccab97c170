"""From an answer with claims and questions to what a labeler is asked."""

from collections.abc import Mapping
from typing import Any

from rlaifv_jax.feedback.fields import ANSWER, Record, find, owner_of, texts_of
from rlaifv_jax.feedback.prompts import Template

LEFT_OUT = ("image_id", "question", "image")  # of an item, in `metainfos` of its feedback


def yes_no_items(record: Record, template: Template) -> list[Record]:
    """One item for each claim and its question, as construct_question_yesno of utils/llama3_8b_inference.py has them.

    An answer without claims has none; so has one whose claims and questions were not brought together.

    Raises:
      UserError: a record of another kind.
    """
    if record.get("error"):
        return []
    claims, questions = (texts_of(record, name, "score") for name in ("facts", "changed_facts"))
    nested = record.get("metainfos")
    about = {
        **(nested if isinstance(nested, Mapping) else {}),
        "origin_question": owner_of(record).question,
        "origin_answer": next((record[name] for name in ANSWER if name in record), None),
    }
    return [
        {
            "question_id": record.get("question_id"),
            "ds_question_id": find(record, "ds_question_id"),
            "image_path": find(record, "image_path"),
            "question": template.fill(question=question),
            "metainfos": {
                **about,
                "origin_fact": claim,
                "origin_changed_fact": question,
                "origin_all_facts": claims,
                "origin_changed_all_facts": questions,
            },
        }
        for claim, question in zip(claims, questions, strict=False)  # of unequal length only where that was asked for
    ]


def is_item(record: Mapping[str, Any]) -> bool:
    """Whether a record is an item already, as in the original's .qas.jsonl."""
    about = record.get("metainfos")
    return isinstance(record.get("question"), str) and isinstance(about, Mapping) and "origin_fact" in about


def feedback_record(item: Record, answer: str, scores: Mapping[str, float], model: str, **more: Any) -> Record:
    """The original's record of a labeler's verdict on an item."""
    return {
        "question_id": item.get("question_id"),
        "ds_question_id": item.get("ds_question_id"),
        "raw_question": item["question"],
        "answer": answer,
        "scores": dict(scores),
        "metainfos": {key: value for key, value in item.items() if key not in LEFT_OUT},
        "model_path": model,
        **more,
    }
