"""`python -m rlaifv_jax.feedback agreement`: figures by hand, score sets that do not fit, the small world."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.__main__ import main
from rlaifv_jax.feedback.agreement.claims import read
from rlaifv_jax.feedback.agreement.measures import agreement, calibration
from rlaifv_jax.feedback.agreement.report import as_json, as_markdown, as_text, compare, tables
from rlaifv_jax.shapes.heldout import MODELS
from tests.fake_server import Server, serving
from tests.feedback.chain import make, make_config, read_stage, write_lines
from tests.feedback.labelers import write_captions

NAN = float("nan")


def verdict(number: int, claim: str, yes: float | None, model: str = "one", **changes: Any) -> dict[str, Any]:
    """A record of the score stage; yes=None: an error."""
    about = {"origin_question": "q", "origin_answer": "a", "origin_fact": claim, **changes}
    chance = yes or 0.0
    return {
        "question_id": number,
        "ds_question_id": "picture",
        "raw_question": f"{claim}? Please answer yes or no.",
        "answer": "",
        "scores": {"yes": 0.0, "Yes": chance / 2, "no": 0.0 if yes is None else (1 - chance) / 2, "No": 0.0},
        "metainfos": {"metainfos": about},
        "model_path": f"models/{model}",
        **({"error": "image_missing"} if yes is None else {}),
    }


def write(folder: Path, name: str, chances: Sequence[float | None]) -> str:
    records = [verdict(row // 2, f"claim {row}", chance, name) for row, chance in enumerate(chances)]
    return str(write_lines(folder / f"{name}.jsonl", records))


# ------------------------------------------------------------------------------------------------- figures


def test_kappa_by_hand() -> None:
    """Cohen's own kind of table: 20 both yes, 5 and 10 apart, 15 both no."""
    first = [0.9] * 20 + [0.8] * 5 + [0.1] * 10 + [0.2] * 15 + [NAN, 0.9]
    second = [0.9] * 20 + [0.3] * 5 + [0.6] * 10 + [0.2] * 15 + [0.9, NAN]
    chances = np.array([first, second])
    found = agreement(chances, chances > 0.5)
    assert (found.both, found.first, found.second, found.neither) == (20, 5, 10, 15)
    assert found.raw == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert found.apart == pytest.approx(0.15)
    same = agreement(np.full((2, 3), 0.9), np.full((2, 3), True))
    assert same.raw == 1
    assert same.kappa is None
    nothing = agreement(np.full((2, 3), NAN), np.full((2, 3), False))
    assert nothing.raw is None
    assert nothing.kappa is None


def test_calibration_by_hand() -> None:
    chances = np.array([0.1, 0.1, 0.5, 0.9, 0.9, 1.0, NAN, 0.7])
    truth = np.array([0, 1, 1, 1, 1, 0, 1, -1], np.int8)
    found = calibration(chances, chances > 0.5, truth, bins=5)
    assert found is not None
    assert [(each.low, each.claims) for each in found.bins] == [(0, 2), (0.4, 1), (0.8, 3)]
    assert [each.true for each in found.bins] == pytest.approx([0.5, 1, 2 / 3])
    expected = (2 * abs(0.1 - 0.5) + abs(0.5 - 1) + 3 * abs(2.8 / 3 - 2 / 3)) / 6
    assert found.error == pytest.approx(expected)
    assert found.claims == 6
    assert found.right == pytest.approx(3 / 6)
    assert found.accepted_true == pytest.approx(2 / 4)
    assert found.rejected_false == pytest.approx(1 / 2)
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.25 + 0.01 + 0.01 + 1) / 6)
    assert calibration(chances, chances > 0.5, np.full(8, -1, np.int8), bins=5) is None


def test_probabilities_that_mean_what_they_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(size=50_000)
    truth = (rng.uniform(size=50_000) < chances).astype(np.int8)
    honest = calibration(chances, chances > 0.5, truth, bins=10)
    bold = calibration(np.where(chances > 0.5, 0.99, 0.01), chances > 0.5, truth, bins=10)
    assert honest is not None
    assert bold is not None
    assert honest.error < 0.01
    assert bold.error == pytest.approx(0.24, abs=0.01)


# ------------------------------------------------------------------------------------------------- the whole


def test_three_labelers(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, "one", [0.9, 0.8, 0.2, None, 0.6]),
        write(tmp_path, "two", [0.9, 0.1, 0.4, 0.9, 0.4]),
        write(tmp_path, "three", [0.7, 0.6, 0.1, 0.2, 0.9]),
    ]
    found = compare(read(paths), reference=2, bins=10, most=10)
    assert [labeler.name for labeler in found.judgements.labelers] == ["one", "two", "three"]
    assert {places: pair.claims for places, pair in found.pairs.items()} == {(0, 1): 4, (0, 2): 4, (1, 2): 5}
    assert [each["claim"] for each in found.apart] == ["claim 1", "claim 3", "claim 4"]
    assert found.apart[0]["p_yes"] == pytest.approx([0.8, 0.1, 0.6])
    assert found.apart[1]["p_yes"][0] is None
    assert found.against == "three"
    assert list(found.calibrations) == [0, 1]
    told = json.loads(json.dumps(as_json(found)))
    assert told["claims"] == 5
    assert [each["without_verdict"] for each in told["labelers"]] == [1, 0, 0]
    assert told["pairs"][2]["agreement"] == pytest.approx(0.4)
    made = tables(found)
    assert "one – two" in as_text(made)
    assert "| one | 5 | 1 | 75.0 % |" in as_markdown(made, "")


def test_labels_of_a_part(tmp_path: Path) -> None:
    path = write(tmp_path, "one", [0.9, 0.8, 0.2])
    labels = [{"question_id": 0, "claim": "claim 1", "truth": "No"}, {"question_id": 1, "claim": "claim 2", "truth": 0}]
    found = compare(read([path], str(write_lines(tmp_path / "truth.jsonl", labels))), None, 10, 10)
    one = found.calibrations[0]
    assert one is not None
    assert (one.claims, one.right, one.accepted_true, one.rejected_false) == (2, 0.5, None, 0.5)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            {"question_id": 9, "claim": "claim 1", "truth": True},
            "question_id 9, claim .claim 1. is not among",
        ),
        ({"question_id": 0, "claim": "claim 0", "truth": False}, "row 1: the claim 'claim 0' is labelled before"),
        ({"question_id": 0, "claim": "claim 1"}, r"row 1: question_id, claim \(a text\) and truth"),
        ({"question_id": 0, "claim": "claim 1", "truth": "maybe"}, r"row 1: question_id, claim \(a text\) and truth"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, label: dict[str, Any], message: str) -> None:
    path = write(tmp_path, "one", [0.9, 0.8, 0.2])
    first = {"question_id": 0, "claim": "claim 0", "truth": True}
    with pytest.raises(UserError, match=message):
        read([path], str(write_lines(tmp_path / "truth.jsonl", [first, label])))


def test_other_claims_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "one", [0.9, 0.8, 0.2])
    records = [verdict(row // 2, f"claim {row}", 0.5, "two") for row in range(3)]
    for changed, message in (
        (records[:2], r"other.jsonl has 2 claims and .*one.jsonl more; the first that it lacks is 'claim 2'"),
        ([*records, verdict(3, "claim 3", 0.5)], r"one.jsonl has 3 claims and .*other.jsonl more.* 'claim 3'"),
        (
            [records[0], verdict(0, "claim x", 0.5), records[2]],
            r"not about the same claims: record 1 has claim 'claim 1' there and 'claim x' here",
        ),
        ([verdict(7, "claim 0", 0.5), *records[1:]], "record 0 has question_id 0 there and 7 here"),
        ([verdict(0, "claim 0", 0.5, origin_answer="b"), *records[1:]], "record 0 has origin_answer 'a' there and 'b'"),
        ([records[0] | {"scores": {"yes": 1}}, *records[1:]], r"other.jsonl, record 0: has scores \{'yes': 1\}"),
    ):
        other = str(write_lines(tmp_path / "other.jsonl", changed))
        with pytest.raises(UserError, match=message):
            read([one, other])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "give two or more directories"),
        (["--against", "2"], "--against is 2; it must be the place of one of 1 score sets"),
        (["--against", "1", "--truth", "x"], "--truth and --against both say what is true"),
        (["--bins", "0"], "--bins must be 1 or more"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, more: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["feedback", "agreement", write(tmp_path, "one", [0.9]), *more])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err


def test_labelers_of_the_small_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped labeler against a server that always says yes, and both against the true scenes."""
    truth = write_captions(tmp_path, 4)
    config = make_config(tmp_path, MODELS / "labeler", score__prompt=str(MODELS.parent / "check.txt"))
    records = read_stage(make(config, "divide", "question", "score") / "score")
    with serving(Server(lambda _: "Yes.")) as server:
        config.score.update({"model": "yea", "server": server.url, "verdict": "text", "dtype": ""})
        config.score.input, config.output_dir = str(tmp_path / "out/question"), str(tmp_path / "yea")
        make(config, "score")
    labels = [
        {"question_id": r["question_id"], "claim": r["metainfos"]["metainfos"]["origin_fact"], "truth": true}
        for r, true in zip(records, truth, strict=True)
    ]
    given = [str(tmp_path / "out/score"), str(tmp_path / "yea/score")]
    given += ["--truth", str(write_lines(tmp_path / "truth.jsonl", labels)), "--output", str(tmp_path / "agreement")]
    monkeypatch.setattr(sys, "argv", ["feedback", "agreement", *given])
    with pytest.raises(SystemExit, match="0"):
        main()
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "agreement/agreement.json").read_text())
    labeler, yea = found["calibration"]["labelers"]
    assert labeler["right"] > 0.9
    assert yea["right"] == pytest.approx(np.mean(truth))
    assert yea["error"] == pytest.approx(1 - np.mean(truth))  # always sure
    assert labeler["error"] < yea["error"]
    assert all(each["claims_per_second"] > 0 for each in found["labelers"])
    assert found["pairs"][0]["kappa"] == pytest.approx(0)  # beyond chance, nothing
    assert "labeler – yea" in said
    assert "![reliability diagram](reliability.png)" in (tmp_path / "agreement/agreement.md").read_text()
    with Image.open(tmp_path / "agreement/reliability.png") as chart:
        assert min(chart.size) > 500
