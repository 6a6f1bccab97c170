"""Ask a model all questions of a file: what `rlaifv_jax.generate` does once its options are understood."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict

import jax
from tqdm import tqdm

from rlaifv_jax import cli
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.questions import Question, Questions
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.records.answer_file import AnswerFile, read_records
from rlaifv_jax.sampling.engine import Engine
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling


class Asking:
    """What is asked of whom, how, and where the answers go."""

    def __init__(
        self, given: argparse.Namespace, speaker: Speaker, questions: Questions, settings: Sampling, samples: int
    ):
        self.given, self.speaker, self.questions = given, speaker, questions
        self.settings, self.samples = settings, samples
        self.identity = {
            "model": given.model,
            "questions": questions.fingerprint,
            "first row": given.start,
            "n": samples,
            "seed": given.seed,
            "template": speaker.prompter.voice,
            "image aspect ratio": speaker.prompter.aspect_ratio,
            "dtype": speaker.dtype,
            "cache": given.cache or speaker.dtype,
            **asdict(settings),
        }

    def answer_all(self) -> int:
        """Returns how many records have an error; 0 in all processes but the first."""
        given, process, processes = self.given, jax.process_index(), jax.process_count()
        file = AnswerFile(given.output, self.identity, len(self.questions), self.samples, process, processes)
        left = [question for question in self.questions.asked if question.index not in file.done]
        if file.done and process == 0:
            cli.say(f"{len(file.done)} of {len(self.questions)} questions were answered before")
        if left:
            file.keep("weights", {"weights": model_fingerprint(self.speaker.params, self.speaker.dtype)})
            engine = self.speaker.engine(
                self.settings,
                samples=self.samples,
                prompts=given.slots,
                branches=given.branches,
                cache=given.cache or "",
                seed=given.seed,
            )
            # Dealt by number: what the others have finished meanwhile must not change who asks what.
            mine = [question for question in left if question.index % processes == process]
            self._answer(mine, engine, file, show=process == 0)
        file.finish()
        return self.report(given.output) if process == 0 else 0

    def _answer(self, questions: list[Question], engine: Engine, file: AnswerFile, *, show: bool) -> None:
        bar = tqdm(total=len(questions) * self.samples, unit="answer", desc="generate", disable=not show)

        def write(question: Question, texts: list[str], error: str | None = None) -> None:
            file.add(question.index, self.questions.answers(question, texts, self.given.model, error))
            bar.update(len(texts))

        def prompts() -> Iterator[Prompt]:
            for question, prompt in ahead(self._prompt, questions):
                if isinstance(prompt, str):
                    write(question, [""] * self.samples, error=prompt)
                else:
                    yield prompt

        with bar:
            started = time.perf_counter()
            for found in engine.generate(prompts()):
                write(found.tag, [answer.text for answer in found.answers])
                rate = engine.account.tokens / (time.perf_counter() - started)
                bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)

    def _prompt(self, question: Question) -> tuple[Question, Prompt | str]:
        """What the engine takes, or why there is nothing."""
        try:
            picture = self.questions.picture(question)
            prompt = self.speaker.prompter.prompt(question.text, picture, question.name, question)
            self.speaker.check_length(prompt.positions, self.settings.max_new_tokens)
        except BadRow as fault:
            return question, str(fault)
        return question, prompt

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
