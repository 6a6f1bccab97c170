"""Ask all questions of a file: what `rlaifv_jax.generate` does once its options are understood."""

import argparse

import jax
from tqdm import tqdm

from rlaifv_jax import cli
from rlaifv_jax.answers import Answers
from rlaifv_jax.data.questions import Question, Questions
from rlaifv_jax.records.answer_file import AnswerFile, read_records


class Asking:
    """What is asked of whom, and where the answers go."""

    def __init__(self, given: argparse.Namespace, answers: Answers, questions: Questions, samples: int):
        self.given, self.answers, self.questions, self.samples = given, answers, questions, samples
        self.identity = {
            "model": given.model,
            "questions": questions.fingerprint,
            "first row": given.start,
            "n": samples,
            "seed": given.seed,
            **answers.identity,
        }

    def answer_all(self) -> int:
        """Returns how many records have an error; 0 in all processes but the first."""
        given, process, processes = self.given, jax.process_index(), jax.process_count()
        file = AnswerFile(given.output, self.identity, len(self.questions), self.samples, process, processes)
        left = [question for question in self.questions.asked if question.index not in file.done]
        if file.done and process == 0:
            cli.say(f"{len(file.done)} of {len(self.questions)} questions were answered before")
        if left:
            file.keep("weights", self.answers.load())
            # Dealt by number: what the others have finished meanwhile must not change who asks what.
            mine = [question for question in left if question.index % processes == process]
            try:
                self._answer(mine, file, show=process == 0)
            finally:
                file.close()
        file.finish()
        return self.report(given.output) if process == 0 else 0

    def _answer(self, questions: list[Question], file: AnswerFile, *, show: bool) -> None:
        with tqdm(total=len(questions) * self.samples, unit="answer", desc="generate", disable=not show) as bar:
            for question, found in self.answers.of(questions):
                records = self.questions.answers(question, [answer.text for answer in found], self.given.model)
                file.add(question.index, [record | answer.more for record, answer in zip(records, found, strict=True)])
                bar.update(len(found))
                bar.set_postfix_str(self.answers.speed, refresh=False)

    def report(self, output: str) -> int:
        """Say what a finished file holds; returns how many of its records have an error."""
        written, faulty = 0, []
        for record in read_records(output):
            written += 1
            if "error" in record:
                faulty.append((record["question_id"], record["error"]))
        cli.say(f"{output}: {written} answers to {len(self.questions)} questions")
        if faulty:
            which, error = faulty[0]
            cli.say(
                f"warning: {len(faulty)} of them are empty and have an error; the first, question_id {which}: {error}"
            )
        return len(faulty)
