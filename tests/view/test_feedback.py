"""Feedback directories: what became of every two answers agrees with what the stage of pairs did and counted."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError
from rlaifv_jax.view.entry import Unknown
from rlaifv_jax.view.feedback import FeedbackSet
from rlaifv_jax.view.opened import open_set
from tests.view.sets import feedback, png


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return feedback(tmp_path_factory.mktemp("feedback"))


def fates(of: FeedbackSet) -> Counter[str]:
    return Counter(entry.fate.key if entry.fate else "" for entry, _ in of.scan())


def test_every_two_answers_and_what_became_of_them(directory: Path) -> None:
    of = open_set(str(directory))
    assert isinstance(of, FeedbackSet)
    counts = json.loads((directory / "pairs" / "report.json").read_text())["counts"]
    found = fates(of)
    kept = {entry.facts["id"] for entry, _ in of.scan() if entry.fate and entry.fate.key == "kept"}
    assert kept == set(pq.read_table(directory / "pairs" / "00000.parquet", columns=["idx"])["idx"].to_pylist())
    assert found["alike"] == counts["combinations with scores too alike"]
    assert found["uncovered"] == counts["pairs whose verdicts do not cover the claims"] > 0
    assert found["answer"] == counts["answers with a claim that has an error"] == 1
    # Of what is left, the cap comes first there; here a pair that other rules forbid as well is said to be theirs.
    over, lengths = counts["pairs over the cap"], counts["pairs left out for the balance of lengths"]
    same = counts["pairs of twice the same text"]
    assert found["cap"] + found["lengths"] + found["same"] == over + lengths + same
    assert min(over, lengths, found["lengths"], found["same"], found["cap"]) > 0
    assert found["lengths"] >= lengths
    assert sum(found.values()) - found["answer"] == counts["combinations of two answers"]


def test_the_rules_are_told_with_their_numbers(directory: Path) -> None:
    of = FeedbackSet(str(directory))
    for entry, _ in of.scan():
        assert entry.fate
        passed = [step.passed for step in entry.fate.steps]
        assert (False in passed) == (entry.fate.key != "kept")
    kept = next(entry for entry, _ in of.scan() if entry.fate and entry.fate.key == "kept")
    rules = {step.rule: step.found for step in kept.fate.steps} if kept.fate else {}
    assert rules["No more than 1 pairs of an image are drawn"] == "drawn"
    assert rules["Verdicts cover the claims"] == "3 of 3 and 3 of 3 claims"


def test_claims_have_their_probability_and_errors(directory: Path) -> None:
    of = FeedbackSet(str(directory))
    (faulty,) = [entry for entry, _ in of.scan() if len(entry.sides) == 1]
    (side,) = faulty.sides
    assert [claim.p for claim in side.claims] == [0.1, 0.9, None] or side.claims[2].error == "server: refused"
    assert faulty.fate
    assert faulty.fate.steps[0].found == "server: refused"
    answers = of.siblings(faulty.address)
    assert len(answers) == 4
    assert answers[-1].address == faulty.address  # has no score
    scores = [entry.sides[0].score for entry in answers[:-1]]
    assert scores == sorted(scores, reverse=True)


def test_links_lead_to_the_entry(directory: Path) -> None:
    of = FeedbackSet(str(directory))
    entries = [entry for entry, _ in of.scan()]
    ids = [of.to_id(entry.address) for entry in entries]
    assert len(set(ids)) == len(ids)
    for id, entry in list(zip(ids, entries, strict=True))[::7]:
        assert of.entry(of.from_id(id)) == entry
    for wrong in ("0.0.99", "0.3.1", "9.0.1", "0.0", "a.b.c", "-1.0.1", "0.0.99999999", "../../x", ""):
        with pytest.raises(Unknown):
            of.entry(of.from_id(wrong))


def test_pictures_of_kept_pairs_need_no_folder_and_others_do(directory: Path) -> None:
    of, helped = FeedbackSet(str(directory)), FeedbackSet(str(directory), str(directory.parent))
    missing = 0
    for entry, _ in of.scan():
        number = int(entry.facts["picture"].removeprefix("p").removesuffix(".png"))
        assert helped.picture(entry.address) == png(number)
        try:
            assert of.picture(entry.address) == png(number)
        except BadRow:
            missing += 1
            assert entry.fate
            assert entry.fate.key != "kept"
    assert missing > 0


def test_before_the_stage_of_pairs(tmp_path: Path) -> None:
    of = FeedbackSet(str(feedback(tmp_path, pairs=False)))
    assert "kept" not in of.fates
    assert fates(of)["allowed"] > 0
    assert fates(of)["kept"] == 0


def test_damage_is_a_note_and_the_rest_is_shown(tmp_path: Path) -> None:
    out = feedback(tmp_path, pairs=False)
    file = out / "score" / "00001.jsonl"
    file.write_text("{" + file.read_text())
    entries = [entry for entry, _ in FeedbackSet(str(out)).scan()]
    assert len(entries) == 5 * 6 + 1
    assert entries[-1].note == f"shard 00001 cannot be read: {file}, line 1 is damaged; run its stage again"
    file.unlink()
    with pytest.raises(UserError, match="is not finished: 1 of 2 shards"):
        FeedbackSet(str(out))
    (out / "pairs").mkdir()
    (out / "score" / "manifest.json").write_text('{"shards": 1}')
    with pytest.raises(UserError, match="question and score have not as many shards"):
        FeedbackSet(str(out))


def test_a_report_without_its_ratio_is_not_guessed(tmp_path: Path) -> None:
    out = feedback(tmp_path)
    file = out / "pairs" / "report.json"
    report = json.loads(file.read_text())
    del report["ratio"]
    file.write_text(json.dumps(report))
    of = FeedbackSet(str(out))
    found = [entry for entry, _ in of.scan() if entry.fate and entry.fate.key == "cap"]
    assert fates(of)["lengths"] == 0
    assert found
    for entry in found:
        assert entry.fate
        assert entry.fate.steps[-1].found == "not drawn, or left out for its length, whose limit is not known"
        assert entry.fate.steps[-2].passed is None


def test_a_pairs_directory_tells_its_rules(directory: Path) -> None:
    entry = open_set(str(directory / "pairs")).entry(0)
    assert entry.fate
    assert entry.fate.key == "kept"
    assert all(step.passed is not False for step in entry.fate.steps)
