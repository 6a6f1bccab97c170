"""Every family that can label: claims about real photographs, and a claim among many as if it stood alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.templates import Turn
from rlaifv_jax.feedback.labeler import answer_tokens, branched
from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.sampling.forward import Forward, NextToken
from rlaifv_jax.sampling.load import Speaker
from tests.conftest import WORDS as VOCABULARY
from tests.convert.llava_nexts import TinyLlavaNext
from tests.convert.minicpms import TinyMiniCpm
from tests.convert.omnilmms import TinyOmniLmm, write_small_world
from tests.data import chatml_tokenizer
from tests.feedback.chain import make, make_config, read_lines, read_stage, write_lines
from tests.sampling.talker import Talker

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"
PHOTOGRAPHS, CLAIMS = 8, 100


@pytest.fixture(scope="module", params=["llava", "omnilmm", "llava_next", "minicpm"])
def labeler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, talker: Talker) -> Path:
    """A tiny one with random weights, whose tokenizer knows yes and no."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "omnilmm":
        rows = write_small_world(folder / "tokenizer")
        return TinyOmniLmm(vocab=rows, window=4096, seed=2, gain=2).write(folder, tokenizer=folder / "tokenizer")
    if request.param == "llava_next":
        tokenizer = chatml_tokenizer.write_tokenizer(folder / "tokenizer", words=("yes", "no"))
        return TinyLlavaNext(vocab=640, seed=6).write(folder / "model", tokenizer=tokenizer)
    if request.param == "minicpm":
        return TinyMiniCpm(seed=1, gain=2).write(folder)
    return talker.folder


def test_a_claim_alone_is_a_claim_among_a_hundred(labeler: Path) -> None:
    speaker = Speaker(labeler, dtype="float32", tensor=1)
    prompter, chance = speaker.prompter, np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 256, (90, 160, 3), dtype=np.uint8))
    placement, tiles = prompter.placement(lambda: picture.size), prompter.tiles(picture)
    questions = [" ".join(chance.choice(VOCABULARY, chance.integers(1, 12))) + " ?" for _ in range(CLAIMS)]
    asked = [prompter.encode([Turn("user", question)], placement) for question in questions]
    ids, forward = answer_tokens(prompter, "here").known, Forward.of(speaker)

    def read(groups: list[list[int]]) -> list[NextToken]:
        branches = [branched(prompter, [asked[number] for number in group]) for group in groups]
        found = dict(
            forward.next_tokens(branches, lambda _: tiles, set(range(len(groups))), ids, row_length=0, longest_row=8192)
        )
        return [verdict for number in range(len(groups)) for verdict in found[number]]  # type: ignore[misc]

    together = read([list(range(CLAIMS))])
    alone = read([[number] for number in range(CLAIMS)])
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.chances, other.chances, atol=1e-5, rtol=0)
    assert len({verdict.best for verdict in alone}) > 1 or np.ptp([v.chances[0] for v in alone]) > 1e-4


@pytest.mark.skipif(not PHOTOS.exists(), reason="the shared photographs are not here")
def test_claims_about_photographs(labeler: Path, tmp_path: Path) -> None:
    """A claim is a sentence of a written answer, right or wrong."""
    pairs = read_lines(PHOTOS / "photo_pairs.jsonl")
    shown = list(dict.fromkeys(pair["image_path"] for pair in pairs))[:PHOTOGRAPHS]
    records = [
        {
            "question_id": number,
            "ds_question_id": pair["image_path"],
            "raw_question": pair["question"],
            "answer": pair["chosen"],
            "metainfos": {"image_path": Path(pair["image_path"]).name},
            "model_path": "people",
        }
        for number, pair in enumerate(pairs)
        if pair["image_path"] in shown
    ]
    for name in shown:
        shutil.copyfile(PHOTOS / "images" / Path(name).name, tmp_path / Path(name).name)
    write_lines(tmp_path / "answers.jsonl", records)
    out = make(make_config(tmp_path, labeler), "divide", "question", "score")
    verdicts = read_stage(out / "score")
    assert len(verdicts) > 2 * len(records)
    assert not any("error" in verdict for verdict in verdicts)
    known = [word for word in WORDS if any(verdict["scores"][word] for verdict in verdicts)]
    assert {"yes", "no"} <= set(known)
    assert all(0 < sum(verdict["scores"].values()) < 1 for verdict in verdicts)
    spread = {round(verdict["scores"]["yes"], 6) for verdict in verdicts}
    assert len(spread) > len(shown)  # both the picture and the claim tell
