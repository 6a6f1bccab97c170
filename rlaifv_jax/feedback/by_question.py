"""Pictures of answers whose records do not name them: by way of the question."""

from rlaifv_jax.data.questions import Questions
from rlaifv_jax.feedback.fields import Record, find, group_of


class ByQuestion:
    """Finds the pictures of answers whose records do not name them, in the file of questions."""

    def __init__(self, questions: Questions):
        self.questions = questions
        self.places = {
            (group_of(questions.record(question)), question.text): question for question in reversed(questions.asked)
        }

    def __call__(self, record: Record) -> bytes | None:
        asked = find(record, "origin_question") or record.get("raw_question") or record.get("question")
        question = self.places.get((group_of(record), str(asked)))
        return None if question is None else self.questions.image(question)
