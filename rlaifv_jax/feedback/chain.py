"""The stages of a config: what each reads, what does its work, and where its records go."""

import argparse
import os
from dataclasses import fields
from typing import Any

from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.images import ASPECT_RATIOS
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import prompts
from rlaifv_jax.feedback.best_of_n import BestOptions, best_of_n
from rlaifv_jax.feedback.by_question import ByQuestion
from rlaifv_jax.feedback.by_server import ServerScore
from rlaifv_jax.feedback.divide import Divide
from rlaifv_jax.feedback.fields import owner_of
from rlaifv_jax.feedback.functions import Named, load_function
from rlaifv_jax.feedback.pairs import Making, make_pair_files
from rlaifv_jax.feedback.question import Question
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.feedback.rules import Rules
from rlaifv_jax.feedback.score import Score
from rlaifv_jax.feedback.stage import run
from rlaifv_jax.feedback.writers import Writer, WriterOptions, make_writer
from rlaifv_jax.parallel import is_main
from rlaifv_jax.places import place
from rlaifv_jax.records.answer_file import read_records
from rlaifv_jax.records.source import Input
from rlaifv_jax.sampling.load import check_model
from rlaifv_jax.sampling.settings import CACHE_DTYPES, DTYPES
from rlaifv_jax.server_requests import ServerOptions

ON_DEVICES = ("vision_path", "template", "image_aspect_ratio", "dtype")  # of a labeler; its server decides these


class Feedback:
    """A config, and the directories of its stages."""

    def __init__(self, config: Any):
        self.config = config
        if not config.output_dir:
            raise UserError("output_dir is not set")
        self.output = place(config.output_dir)
        if config.shard_answers < 1:
            raise UserError(f"shard_answers is {config.shard_answers}; it must be 1 or more")

    # ---------------------------------------------------------------- the stages, each from its files to its files

    def candidates(self) -> None:
        """Ask the policy the questions, by rlaifv_jax.generate."""
        from rlaifv_jax.generate import generate

        self.output.mkdir(parents=True, exist_ok=True)
        generate(self._asking())
        if is_main() and all(record.get("error") for record in read_records(self.candidates_file)):
            raise UserError(f"{self.candidates_file}: every answer has an error; see above, and remove it to ask again")

    def _asking(self) -> argparse.Namespace:
        """What rlaifv_jax.generate is told, checked."""
        from rlaifv_jax.generate import check, parse_arguments

        policy = self.config.policy
        if not policy.model:
            raise UserError("policy.model is not set; name the model that answers the questions")
        for name, legal in (("dtype", DTYPES), ("cache", CACHE_DTYPES), ("image_aspect_ratio", ASPECT_RATIOS)):
            if policy[name] not in ("", *legal):
                raise UserError(f"policy.{name} is {policy[name]!r}; it can be {', '.join(map(repr, legal))} or empty")
        given = {
            "model": policy.model,
            "questions": self.config.questions,
            "output": self.candidates_file,
            "seed": self.config.seed,
            "start": self.config.start,
            "end": self.config.end,
            "image_folder": self.config.image_folder,
            **{name: value for name, value in policy.items() if name != "model" and value not in ("", 0)},
            "temperature": policy.temperature,
        }
        asking = parse_arguments([f"--{name.replace('_', '-')}={value}" for name, value in given.items()])
        try:
            check(asking)
        except UserError as error:
            raise UserError(f"policy: {error}") from None
        return asking

    def divide(self) -> None:
        section = self.config.divide
        path = section.input or self.config.candidates or self.candidates_file
        if not (section.input or self.config.candidates or place(path).exists()):
            raise UserError(f"candidates is not set and there is no {path}; give answers, or start from --questions")
        run(self._divide(), self._open(path), self.output / "divide")

    def question(self) -> None:
        source = self._open(self.config.question.input or self._made("divide"))
        run(self._question(), source, self.output / "question")

    def score(self) -> None:
        source = self._open(self.config.score.input or self._made("question"))
        run(self._score(self._pictures(source)), source, self.output / "score")

    def pairs(self) -> None:
        section = self.config.pairs
        answers = self._open(section.answers or self._made("question"))
        feedback = self._open(section.feedback or self._made("score"))
        make_pair_files(answers, feedback, self.output / "pairs", self._making(), self._pictures(answers))

    def best_of_n(self) -> None:
        section = self.config.best_of_n
        source = self._open(section.input or self.config.candidates or self.candidates_file)
        options = BestOptions(section.policy, section.reference, section.by, section.n, _reading(section))
        best_of_n(source, self.output / "best_of_n", options, self._pictures(source))

    def all(self) -> None:
        """The chain; stages that are complete are left alone."""
        self.check()
        if self._starts_from_questions:
            self.candidates()
        self.judge()

    def judge(self) -> None:
        """The chain from answers on."""
        self.divide()
        self.question()
        self.score()
        self.pairs()

    # ---------------------------------------------------------------- who does the work

    def check(self) -> None:
        """Find settings of the chain that cannot work before anything is done. Raises `UserError`."""
        if self._starts_from_questions and self.config.policy.model:
            self._asking()
            check_model(self.config.policy.model, "policy.model")
        self._divide()
        self._question()
        self._score(Pictures([]))
        self._making()
        if not self.config.score.server:
            check_model(self.config.score.model, "score.model", sees=True)
        for stage in ("divide", "question"):
            if not (self.config[stage].function or self.config[stage].server):
                check_model(self.config[stage].model, f"{stage}.model")

    def _divide(self) -> Divide:
        section = self.config.divide
        return Divide(
            by=self._by("divide"),
            prompt=prompts.load("split", section.prompt),
            pieces=section.pieces,
            legacy_bullets=self.config.legacy_bullet_parsing,
        )

    def _question(self) -> Question:
        section = self.config.question
        return Question(
            by=self._by("question"),
            prompt=prompts.load("question", section.prompt),
            legacy_bullets=self.config.legacy_bullet_parsing,
            mismatch=section.mismatch,
        )

    def _score(self, pictures: Pictures) -> Score | ServerScore:
        section = self.config.score
        prompt = prompts.load("check", section.prompt)
        if not section.server:
            return Score(section.model, _reading(section), prompt, pictures)
        for name in ON_DEVICES:
            if section[name]:
                raise UserError(f"score.{name} is set, but score.server decides that; leave it empty")
        line = ServerOptions(
            key="score", **{field.name: section[field.name] for field in fields(ServerOptions) if field.name != "key"}
        )
        own = ("verdict", "top_logprobs", "max_new_tokens", "require_model")
        return ServerScore(line, prompt, pictures, **{name: section[name] for name in own})

    def _making(self) -> Making:
        section = self.config.pairs
        rules = Rules(
            score=section.score,
            difference=section.difference,
            cap=section.cap,
            cap_by=section.cap_by,
            consistent=section.consistent,
            seed=self.config.seed,
        )
        return Making(rules, section.balance, section.tolerance, section.name, section.shard_rows)

    # ---------------------------------------------------------------- what they have in common

    @property
    def _starts_from_questions(self) -> bool:
        return bool(self.config.questions) and not (self.config.candidates or self.config.divide.input)

    @property
    def candidates_file(self) -> str:
        return str(self.output / "candidates.jsonl")

    def _made(self, stage: str) -> str:
        directory = self.output / stage
        if not directory.exists():
            raise UserError(f"there is no {directory}; run the stage {stage!r} first, or say where its records are")
        return str(directory)

    def _open(self, path: str) -> Input:
        return Input(path, owner_of, self.config.shard_answers)

    def _by(self, stage: str) -> Writer | Named:
        section = self.config[stage]
        if section.function:
            return load_function(section.function, f"{stage}.function")
        given = {field.name: section[field.name] for field in fields(WriterOptions) if field.name != "key"}
        return make_writer(WriterOptions(key=stage, **given), self.config.seed)

    def _pictures(self, source: Input) -> Pictures:
        """Relative paths start beside whatever was given: questions, answers, or what other stages made of them."""
        folders: list[str | None] = [self.config.image_folder or None]
        inputs = [self.config[stage].input for stage in ("divide", "question", "score")]
        for given in filter(None, (self.config.candidates, *inputs, self.config.pairs.answers)):
            folders.append(given if place(given).is_dir() else os.path.dirname(given))
        questions = None
        if self.config.questions:
            questions = Questions(self.config.questions)
            folders.append(questions.table.folder(0))
        return Pictures([*folders, *source.folders, ""], ByQuestion(questions) if questions else None)


def _reading(section: Any) -> Reading:
    return Reading(**{field.name: section[field.name] for field in fields(Reading)})
