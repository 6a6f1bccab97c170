"""Pictures of answers whose records do not name them: by way of the question."""

from collections import defaultdict

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.questions import Question, Questions
from rlaifv_jax.feedback.fields import Record, owner_of


class ByQuestion:
    """Finds the pictures of answers whose records do not name them, in the file of questions.

    An answer that does not say what it is about, as the original writes where a question has neither a ds_question_id
    nor an image_path, is found by the words of its question, if these are asked about one picture only.
    """

    def __init__(self, questions: Questions):
        self.questions = questions
        self.places: dict[tuple[str, str], list[Question]] = defaultdict(list)
        for question in questions.asked:
            group, text, _ = owner_of(questions.answers(question, [""], "")[0])
            self.places[group, text].append(question)
            if group:
                self.places["", text].append(question)

    def __call__(self, record: Record) -> bytes | None:
        """The encoded picture; None where the question is not there or has none. Raises `BadRow`."""
        found = self.places.get(owner_of(record)[:2], [])
        if len({self.questions.picture_name(question) for question in found}) > 1:
            raise BadRow("image_missing", "it does not say which of several pictures it is about")
        return self.questions.image(found[0]) if found else None
