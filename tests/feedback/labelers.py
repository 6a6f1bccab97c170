"""The shipped labeler as a server would have it: a question and a picture in, its likeliest first tokens out."""

import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np

from rlaifv_jax.data import images
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.feedback.labeler import branched
from rlaifv_jax.sampling import calls
from rlaifv_jax.sampling.forward import Forward
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.captions import caption
from rlaifv_jax.shapes.heldout import MODELS
from tests.fake_server import Tokens
from tests.feedback.chain import read_lines, write_lines

TOP, ROW = 20, 256


class ServedLabeler:
    """One question after the other, each on a row of its own."""

    def __init__(self) -> None:
        self.speaker = Speaker(MODELS / "labeler", dtype="float32")
        self.forward = Forward.of(self.speaker)
        self.ids = range(self.speaker.model.config.decoder.vocab_size)
        self.lock = threading.Lock()

    def weigh(self, question: str, picture: bytes | None) -> Tokens:
        assert picture is not None
        prompter = self.speaker.prompter
        image = images.decode(picture)
        tiles, placement = prompter.tiles(image), prompter.placement(lambda: image.size)
        prompt = branched(prompter, [prompter.encode([Turn("user", question)], placement)])
        with self.lock, patch.object(calls, "TOKENS_AT_ONCE", ROW):  # a call with nothing but this question
            ((_, found),) = self.forward.next_tokens(
                [prompt], lambda _: tiles, {0}, self.ids, row_length=ROW, longest_row=ROW
            )
        assert isinstance(found, list)
        chances = found[0].chances
        best = np.argsort(-chances, kind="stable")[:TOP]
        return [(self.speaker.tokenizer.decode([int(token)]), float(np.log(chances[token]))) for token in best]


def write_captions(folder: Path, scenes: int, seed: int = 3) -> list[bool]:
    """Two answers to each question: what is there, and what is in the next picture. Returns for every claim, in the
    order of its records, whether it is true."""
    shown = write_questions(folder, scenes, seed)
    asked = read_lines(folder / "questions.jsonl")
    records, truth = [], []
    for number, question in enumerate(asked):
        for sample in (0, 1):
            scene = shown[(number + sample) % scenes]
            truth += [thing in shown[number] for thing in scene]
            about = {key: value for key, value in question.items() if key != "question"}
            records.append(
                {
                    "question_id": 2 * number + sample,
                    "ds_question_id": question["ds_question_id"],
                    "raw_question": question["question"],
                    "answer": caption(scene),
                    "metainfos": about,
                    "model_path": "captions",
                }
            )
    write_lines(folder / "answers.jsonl", records)
    return truth
