"""Best of N: log-probabilities of the training forward pass, the choice, the command, and what cannot be scored."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlaifv_jax import generate
from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.best_of_n import reward
from rlaifv_jax.shapes.heldout import MODELS
from tests.feedback.chain import SENTENCES, make, make_config, read_lines, read_stage, write_answers, write_lines

BASE, POLICY = str(MODELS / "base"), str(MODELS / "policy")


def choose(folder: Path, **changes: Any) -> Path:
    settings = {"best_of_n__policy": BASE, "best_of_n__reference": POLICY, "best_of_n__dtype": "float32", **changes}
    return make(make_config(folder, **settings), "best_of_n") / "best_of_n"


def hf_log_prob(model: str, answer: dict[str, Any], folder: Path) -> float:
    """By transformers, the whole conversation in one row."""
    torch = pytest.importorskip("torch")
    from PIL import Image
    from transformers import LlavaForConditionalGeneration

    from convert.load import open_model
    from rlaifv_jax.data.images import center_crop, pad_to_square
    from rlaifv_jax.data.templates import LLAVA_V1, Turn
    from rlaifv_jax.data.tokenizer import load_tokenizer
    from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
    from rlaifv_jax.models.seeing import normalize

    hf = LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    encode = load_tokenizer(open_model(model).directory).encode
    whole = LLAVA_V1.render([Turn("user", answer["raw_question"])], answer["answer"], image=True)
    before, after = whole.split("<image>")
    ids = [*encode(before), *[hf.config.image_token_id] * 9, *encode(after)[1:]]
    start = len(ids) - len(encode(f"a {answer['answer']}</s>")) + 2
    picture = pad_to_square(Image.open(folder / answer["ds_question_id"]).convert("RGB"))
    pixels = np.asarray(normalize(center_crop(picture, 48), CLIP_MEAN, CLIP_STD)).transpose(2, 0, 1)[None]
    with torch.inference_mode():
        logits = hf(input_ids=torch.tensor([ids]), pixel_values=torch.from_numpy(pixels.copy())).logits[0].float()
    rows = open_model(model).config.decoder.vocab_size
    values = torch.log_softmax(logits[:-1, :rows], dim=-1)
    return float(sum(values[place - 1, ids[place]] for place in range(start, len(ids))))


def test_log_probs_are_those_of_transformers(tmp_path: Path) -> None:
    answers = read_lines(write_answers(tmp_path, 2))
    out = choose(tmp_path)
    for name, model in (("policy", BASE), ("reference", POLICY)):
        found = read_stage(out / name)
        assert len(found) == 8
        for row in (0, 3, 6):
            assert found[row]["tokens"] == 11 * answers[row]["answer"].count(".") + 1
            theirs = hf_log_prob(model, answers[row], tmp_path)
            assert found[row]["log_prob"] == pytest.approx(theirs, abs=1e-4 * found[row]["tokens"])


def test_the_best_has_the_highest_reward_a_token(tmp_path: Path) -> None:
    answers = read_lines(write_answers(tmp_path, 3))
    out = choose(tmp_path)
    policy, reference = read_stage(out / "policy"), read_stage(out / "reference")
    expected = [(p["log_prob"] - r["log_prob"]) / p["tokens"] for p, r in zip(policy, reference, strict=True)]
    best = read_stage(out / "best")
    assert [record["ds_question_id"] for record in best] == ["0.png", "1.png", "2.png"]
    for number, record in enumerate(best):
        rewards = expected[4 * number : 4 * number + 4]
        assert record["rewards"] == rewards
        chosen = answers[4 * number + int(np.argmax(rewards))]
        assert {key: record[key] for key in chosen} == chosen
        assert record["best_of"] == 4


def test_likelihood_and_fewer_answers(tmp_path: Path) -> None:
    write_answers(tmp_path, 2)
    out = choose(tmp_path, best_of_n__by="likelihood", best_of_n__n=2, best_of_n__reference="")
    assert not (out / "reference").exists()
    policy = read_stage(out / "policy")
    for number, record in enumerate(read_stage(out / "best")):
        part = policy[4 * number : 4 * number + 2]
        assert record["rewards"] == [found["log_prob"] / found["tokens"] for found in part]
        assert record["best_of"] == 2


def test_answers_that_cannot_be_scored(tmp_path: Path) -> None:
    answers = read_lines(write_answers(tmp_path, 3))
    answers[0]["answer"] = ""
    answers[1]["answer"] = "a </s> b"
    for record in answers[4:8]:
        record["answer"] = " "
    write_lines(tmp_path / "answers.jsonl", answers)
    (tmp_path / "2.png").unlink()
    out = choose(tmp_path)
    policy = read_stage(out / "policy")
    assert [bool(record.get("error")) for record in policy] == [True, True, False, False] + [True] * 8
    assert "empty_answer" in policy[0]["error"]
    assert "special_token_in_text" in policy[1]["error"]
    assert "image_missing" in policy[8]["error"]
    best = read_stage(out / "best")
    assert best[0]["rewards"][:2] == [None, None]
    assert best[0]["question_id"] in (2, 3)
    assert best[1]["question_id"] == 4  # the first, where nothing is known
    assert best[2]["rewards"] == [None] * 4


def test_reward() -> None:
    assert reward([{"log_prob": -10.0, "tokens": 5}, {"log_prob": -20.0, "tokens": 5}]) == 2.0
    assert reward([{"log_prob": -10.0, "tokens": 5}]) == -2.0
    assert reward([{"log_prob": -10.0, "tokens": 5}, {"log_prob": None, "tokens": 0}]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best_of_n__by": "luck"}, "best_of_n.by is 'luck'"),
        ({"best_of_n__policy": ""}, "have to be set"),
        ({"best_of_n__reference": ""}, "have to be set"),
        ({"best_of_n__n": -1}, "best_of_n.n is -1"),
    ],
)
def test_settings_that_mean_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_answers(tmp_path, 1)
    with pytest.raises(UserError, match=message):
        choose(tmp_path, **changes)


# ------------------------------------------------------------------------------------------------- the command


def best_of(folder: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    output = folder / "best.jsonl"
    given = ["--model", POLICY, "--questions", str(folder / "q.jsonl"), "--output", str(output), "--dtype", "float32"]
    arguments = generate.parse_arguments([*given, "--max-new-tokens", "40", "--best-of", "3", *more])
    status = guard(lambda: generate.generate(arguments))
    return status, read_lines(output) if output.exists() else []


def test_generate_best_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path, 2)
    (tmp_path / "pictures").mkdir()
    for n in range(2):
        (tmp_path / f"{n}.png").rename(tmp_path / "pictures" / f"{n}.png")
    asked = ("describe the image .", "<image>\ndescribe the image .")
    questions = [{"image_path": f"{n}.png", "question": text} for n, text in enumerate(asked)]
    write_lines(tmp_path / "q.jsonl", questions)
    folder = ("--image-folder", str(tmp_path / "pictures"))
    status, best = best_of(tmp_path, "--policy", BASE, "--reference", POLICY, *folder)
    assert status == 0
    every = read_lines(tmp_path / "best.jsonl.candidates.jsonl")
    assert len(every) == 6
    for number, record in enumerate(best):
        among = [answer["answer"] for answer in every[3 * number : 3 * number + 3]]
        assert record["answer"] == among[int(np.argmax(record["rewards"]))]
        assert all(map(math.isfinite, record["rewards"]))
    settings = json.loads((tmp_path / "best.jsonl.settings.json").read_text())
    assert (settings["policy"], settings["reference"], settings["by"]) == (BASE, POLICY, "reward")
    assert not (tmp_path / "best.jsonl.best").exists()
    before = (tmp_path / "best.jsonl").read_bytes()
    assert best_of(tmp_path, "--policy", BASE, "--reference", POLICY, *folder)[0] == 0
    assert "complete; nothing to do (remove it to choose again)" in capsys.readouterr().err
    assert (tmp_path / "best.jsonl").read_bytes() == before
    assert best_of(tmp_path, "--reference", BASE, *folder)[0] == 2
    assert "belongs to a run with another policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--best-of needs --reference"),
        (["--n", "4", "--reference", POLICY], "--n and --best-of both say"),
        (["--best-of", "-2", "--reference", POLICY], "--best-of is -2"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / "q.jsonl", [{"question": SENTENCES[0]}])
    assert best_of(tmp_path, *more)[0] == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
