"""Why a row of data cannot be used.

A fault belongs to one row: the run goes on without it, or stops, as `data.bad_rows` says. A file whose shape
is wrong as a whole (a missing column, a number where text should be) is a `UserError` instead.
"""

from dataclasses import dataclass

REASONS = {
    "answer_truncated_away": "no labelled token of the answer is left within the maximum length",
    "empty_answer": "the answer has no text",
    "empty_question": "there is neither an image nor a question",
    "image_missing": "the row names an image that is not there",
    "image_tag_in_text": "the image placeholder stands inside a text",
    "image_for_text_model": "the row has an image and the model takes none",
    "image_too_large": "the image has more pixels than are decoded",
    "image_too_thin": "the image is so much longer than wide that the tower has no room for its patches",
    "image_undecodable": "the image is broken or of an unknown format",
    "label_mismatch": "the label mask cannot be aligned with the tokens",
    "longer_than_row": "the row of tokens is longer than `train.row_length`",
    "many_images": "the row has more than one image",
    "not_unicode": "a text holds half of a surrogate pair",
    "prefix_mismatch": "the two answers do not continue the same prompt",
    "prompt_too_long": "the model's context has no room for the prompt and an answer",
    "separator_in_text": "a text contains what the template separates questions and answers by",
    "special_token_in_text": "a text contains a special token of the tokenizer",
    "text_too_long": "a text has more than a million letters",
    "turn_order": "user and assistant do not take turns, or the last word is not where it should be",
    "unsupported_role": "a message is neither from the user nor from the assistant",
}


class BadRow(Exception):
    """One row that must not be used. `reason` is a key of `REASONS`, `detail` a sentence for people."""

    def __init__(self, reason: str, detail: str):
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        super().__init__(reason, detail)  # both in args, so that the exception crosses process borders
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class BadRowRecord:
    """A bad row as it is reported: its number in the source, its own id, the code and the sentence."""

    row: int
    id: str
    reason: str
    detail: str
