"""`python -m rlaifv_jax.iterate`: rounds that go on from the best checkpoint, plans, kills, settings that cannot be."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from configs import iterate_llava15, iterate_shapes
from rlaifv_jax import published
from rlaifv_jax.errors import UserError
from rlaifv_jax.iterate import iterate
from rlaifv_jax.plan_of_rounds import plan
from rlaifv_jax.rounds import Round, State, check
from rlaifv_jax.selection import by_labeler, newest
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests import world

SCENES = 10


def latest_but_one(model: Path, work: Path, config: Any) -> dict[str, float]:
    """A selection for tests: the second checkpoint of a round."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "seen").write_text(str(model))
    return {"score": float(int(model.name) == 2), "number": float(model.name)}


def make_config(folder: Path, **changes: Any) -> ConfigDict:
    """Two quick rounds; keyword `a__b=1` sets a.b."""
    config = iterate_shapes.get_config()
    config.questions, config.output_dir = str(folder / "questions.jsonl"), str(folder / "out")
    config.questions_per_round = SCENES // 2
    config.feedback.policy.n = 6
    config.training.train.batch_pairs, config.training.train.steps = 4, 3
    config.training.checkpoint.every = 1
    config.select.function = "tests.test_iterate:latest_but_one"
    world.set_keys(config, changes)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder with two finished rounds, and their account."""
    folder = tmp_path_factory.mktemp("rounds")
    write_questions(folder, SCENES, seed=5)
    world.run_ok(command(folder, folder))
    return folder, json.loads((folder / "out" / "state.json").read_text())["rounds"]


def command(folder: Path, output: Path) -> list[str]:
    """On the questions of `folder`, with everything written below `output`."""
    (output / "config.py").write_text(
        "from pathlib import Path\nfrom tests.test_iterate import make_config\n\n"
        f"def get_config():\n    config = make_config(Path({str(folder)!r}))\n"
        f"    config.output_dir = {str(output / 'out')!r}\n    return config\n"
    )
    return [sys.executable, "-m", "rlaifv_jax.iterate", f"--config={output}/config.py"]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_rounds_go_on_from_the_best_checkpoint(run: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rounds = run
    out = folder / "out"
    assert [account["chosen"] for account in rounds] == [2, 2]
    assert [sorted(account["measured"]) for account in rounds] == [["1", "2", "3"]] * 2
    models = [lines(out / f"round_{n}" / "candidates.jsonl")[0]["model_path"] for n in (1, 2)]
    assert models == [str(MODELS / "policy"), str(out / "round_1" / "train" / "weights" / "2")]
    assert json.loads((out / "round_2" / "train" / "config.json").read_text())["model"]["path"] == models[1]
    assert (out / "round_2" / "measured" / "3" / "seen").exists()
    asked = [{record["ds_question_id"] for record in lines(out / f"round_{n}" / "candidates.jsonl")} for n in (1, 2)]
    assert asked == [{f"feedback-{n:06d}" for n in range(5)}, {f"feedback-{n:06d}" for n in range(5, 10)}]
    seeds = [json.loads((out / f"round_{n}" / "train" / "config.json").read_text())["seed"] for n in (1, 2)]
    assert seeds == [1, 2]
    state = json.loads((out / "state.json").read_text())
    assert state["rounds"] == rounds
    assert set(rounds[0]["seconds"]) == {"candidates", "feedback", "train", "measure"}


def test_again_is_nothing_to_do(run: tuple[Path, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, rounds = run
    before = (folder / "out" / "state.json").read_bytes()
    assert iterate(make_config(folder)) == rounds
    assert (folder / "out" / "state.json").read_bytes() == before
    said = capsys.readouterr().err
    assert said.count("step 2 was chosen") == 2
    assert "nothing is left to do" in said


def test_another_round_can_be_added(run: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = run
    state = State(make_config(folder, rounds=3, questions_per_round=SCENES // 2), write=False)
    assert state.model_before(3) == str(folder / "out" / "round_2" / "train" / "weights" / "2")
    with pytest.raises(UserError, match=r"holds a run with another config: training.optim.lr \(was 0.0001, now 1.0\)"):
        State(make_config(folder, training__optim__lr=1.0), write=False)


def test_killed_anywhere_ends_the_same(run: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Killed as soon as each of several things appears."""
    folder, rounds = run
    arguments = command(folder, tmp_path)
    out = tmp_path / "out"
    for mark in (
        "round_1/candidates.jsonl.parts",
        "round_1/score",
        "round_1/train/weights/1",
        "round_1/measured/2",
        "round_2/pairs",
        "round_2/train/checkpoints/2",
    ):
        world.kill_when(arguments, (out / mark).exists)
    world.run_ok(arguments)
    for number in (1, 2):
        for name in ("candidates.jsonl", "pairs/pairs.jsonl"):
            theirs = (folder / "out" / f"round_{number}" / name).read_text().replace(str(folder / "out"), "OUT")
            assert (out / f"round_{number}" / name).read_text().replace(str(out), "OUT") == theirs
        assert world.metrics(out / f"round_{number}" / "train") == world.metrics(
            folder / "out" / f"round_{number}" / "train"
        )
    state = json.loads((out / "state.json").read_text())["rounds"]
    assert [(a["chosen"], a["measured"]) for a in state] == [(a["chosen"], a["measured"]) for a in rounds]


def test_what_may_change_on_the_way(run: tuple[Path, list[dict[str, Any]]]) -> None:
    """Devices, servers, workers: yes. What decides results: no, and the way out is one that exists."""
    folder, rounds = run
    free = {"training__data__workers": 2, "feedback__score__tensor": 1, "feedback__divide__retries": 1, "rounds": 1}
    assert iterate(make_config(folder, **free)) == rounds
    with pytest.raises(UserError, match=r"another config: training\.optim\.lr \(.*go back to what it was") as refused:
        iterate(make_config(folder, training__optim__lr=1.0))
    assert "allow_changed" not in str(refused.value)


def test_fewer_rounds_than_are_done(run: tuple[Path, list[dict[str, Any]]]) -> None:
    config = make_config(run[0], rounds=1)
    assert plan(config, State(config, write=False)).endswith("nothing is left to do")


def test_only_the_best_weights_are_kept(tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    config = make_config(tmp_path, rounds=1, keep_weights="best")
    iterate(config)
    assert [path.name for path in (tmp_path / "out" / "round_1" / "train" / "weights").iterdir()] == ["2"]
    (tmp_path / "out" / "round_1" / "train" / "weights" / "1").mkdir()  # as a kill may have left it
    config.rounds = 2
    assert [account["chosen"] for account in iterate(config)] == [2, 2]
    for number in (1, 2):
        kept = (tmp_path / "out" / f"round_{number}" / "train" / "weights").iterdir()
        assert [path.name for path in kept] == ["2"]


# ------------------------------------------------------------------------------------------------- the plan


def test_a_plan_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    assert iterate(make_config(tmp_path), dry_run=True) == []
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().err
    for part in (
        "2 rounds in",
        "5 questions × 6 answers at temperature 1.0",
        "claims of 30 answers by rlaifv_jax.shapes.claims:split",
        f"300 claims scored by {MODELS / 'labeler'}",
        "3 steps of 4 pairs",
        "about 3 checkpoints by tests.test_iterate:latest_but_one",
        "round 2, from the best checkpoint of round 1",
        "nothing is known of the peak of cpu",
    ):
        assert part in said


def test_the_published_rounds_cost_what_they_should(tmp_path: Path) -> None:
    """Of a 7B round on 4,000 questions: training by the formula of a step, written out."""
    write_questions(tmp_path, 20, seed=0)
    config = iterate_llava15.get_config()
    config.questions, config.output_dir, config.questions_per_round = (
        str(tmp_path / "questions.jsonl"),
        str(tmp_path),
        0,
    )
    text = plan(config, State(config, write=False))
    (train,) = [line for line in text.splitlines() if line.strip().startswith("train")]
    pairs, positions = round(20 * 1.34), 576 + 60 + 150
    known = published.sizes_of("liuhaotian/llava-v1.5-7b")
    assert known is not None
    roughly = pairs * (1 + 3 * 4) * 2 * 6.48e9 * positions / 1e15  # 6.48 billion entries of matrices in the layers
    assert float(train.split()[-2]) == pytest.approx(roughly, rel=0.1)
    assert "about 16 checkpoints" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": ""}, "questions is not set"),
        ({"model__path": ""}, "model.path is not set"),
        ({"rounds": 0}, "rounds is 0"),
        ({"questions_per_round": -1}, "questions_per_round is -1"),
        ({"keep_weights": "some"}, "keep_weights is 'some'"),
        ({"training__train__objective": "sft"}, "rounds must be 'dpo'"),
        ({"select__function": "tests.test_iterate:nothing"}, "cannot be imported"),
        ({"select__function": "rlaifv_jax.selection:by_labeler"}, "select.questions is not set"),
        ({"training__reference__path": "x"}, "training.reference.path is set"),
        ({"feedback__divide__function": ""}, "divide.model is not set"),
        ({"feedback__pairs__cap": -1}, "pairs.cap"),
        ({"training__optim__lr": -1.0}, "training: optim.lr is -1"),
        ({"training__train__steps": 0, "training__train__epochs": 0.0}, "training: .* nothing to train"),
        ({"training__train__batch_pairs": 0}, "training: train.batch_pairs is 0"),
        ({"training__checkpoint__every": float("nan")}, "training: checkpoint.every is nan"),
        ({"feedback__score__model": "/nope"}, "feedback: score.model: /nope is neither"),
        ({"feedback__policy__temperature": -1.0}, "feedback: policy: temperature is -1"),
        ({"feedback__policy__max_new_tokens": -5}, "feedback: policy: max_new_tokens is -5"),
        ({"feedback__policy__dtype": "x"}, "feedback: policy.dtype is 'x'"),
        ({"feedback__policy__slots": -1}, "feedback: policy: --slots is -1"),
        ({"feedback__policy__n": 1}, "feedback.policy.n is 1; a pair takes two"),
        ({"select__max_new_tokens": 0}, "select.max_new_tokens is 0"),
        ({"model__path": "/nope"}, "model.path: /nope is neither"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(make_config(tmp_path, **changes))


def test_too_few_questions(tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    with pytest.raises(UserError, match=r"2 rounds of 6 questions need 12, and .* has 10"):
        iterate(make_config(tmp_path, questions_per_round=6), dry_run=True)


def test_a_damaged_state(tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    (tmp_path / "out").mkdir()
    config = make_config(tmp_path)
    good = {"config": config.to_dict(), "rounds": [{"seconds": {}, "measured": {}}]}
    for damage in (
        "{",
        json.dumps(good | {"config": None}),
        *(json.dumps(good | {"rounds": rounds}) for rounds in (None, "ab", [None], [{}], [{"seconds": None}])),
        json.dumps(good | {"rounds": [{"seconds": {}, "measured": {}, "chosen": None}]}),
    ):
        (tmp_path / "out" / "state.json").write_text(damage)
        with pytest.raises(UserError, match=r"state\.json is damaged"):
            iterate(config)


def test_a_mesh_that_cannot_be(tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    with pytest.raises(UserError, match=r"mesh\.data × mesh\.fsdp × mesh\.tensor"):
        iterate(make_config(tmp_path, training__mesh__tensor=3), dry_run=True)


def test_questions_that_change_between_rounds(run: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Those behind may; those that were asked may not."""
    folder, _ = run
    state = json.loads((folder / "out" / "state.json").read_text())
    (tmp_path / "out").mkdir()
    config = make_config(folder)
    config.output_dir, config.rounds = str(tmp_path / "out"), 3
    lines_ = (folder / "questions.jsonl").read_text().splitlines()
    for name, changed in (("more", [*lines_, *lines_[:5]]), ("turned", [*lines_[::-1], *lines_[:5]])):
        config.questions = str(tmp_path / f"{name}.jsonl")
        Path(config.questions).write_text("\n".join(changed) + "\n")
        state["config"]["questions"] = config.questions
        (tmp_path / "out" / "state.json").write_text(json.dumps(state))
        step = Round(config, 3, State(config, write=False))
        if name == "more":
            step._same_questions()
        else:
            with pytest.raises(UserError, match=r"rows 0 to 5 of .* are not those that round 1 has asked"):
                step._same_questions()


# ------------------------------------------------------------------------------------------------- selections


def test_by_labeler(tmp_path: Path) -> None:
    """A model that invents scores lower than one that does not."""
    write_questions(tmp_path, 24, seed=7)
    config = make_config(tmp_path, select__questions=str(tmp_path / "questions.jsonl"), select__max_new_tokens=80)
    found = {name: by_labeler(MODELS / name, tmp_path / name, config) for name in ("base", "policy")}
    assert found["base"]["score"] > found["policy"]["score"]
    assert 0 <= found["base"]["answers_with_a_rejected_claim"] <= 0.2
    assert found["policy"]["answers_with_a_rejected_claim"] == pytest.approx(1 - found["policy"]["score"])
    assert found["base"]["answers_without_a_claim"] == found["base"]["answers_not_judged"] == 0
    assert found["base"]["words_an_answer"] == pytest.approx(11 * found["base"]["claims_an_answer"])


def test_by_labeler_does_not_take_silence_for_truth(tmp_path: Path) -> None:
    write_questions(tmp_path, 4, seed=7)
    config = make_config(tmp_path, select__questions=str(tmp_path / "questions.jsonl"))
    config.feedback.divide.function = "tests.test_iterate:claims_nothing"
    found = by_labeler(MODELS / "base", tmp_path / "base", config)
    assert found["answers_without_a_claim"] == 1
    assert found["score"] == 0
    for picture in (tmp_path / "pictures").iterdir():
        picture.write_text("no picture")
    with pytest.raises(UserError, match=r"every answer has an error"):
        by_labeler(MODELS / "base", tmp_path / "again", config)


def claims_nothing(question: str, answer: str) -> list[str]:
    return []


def test_newest(tmp_path: Path) -> None:
    assert newest(tmp_path / "17", tmp_path, None)["score"] > newest(tmp_path / "9", tmp_path, None)["score"]


def test_a_selection_that_says_nothing(tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    config = make_config(tmp_path, select__function="tests.test_iterate:lines")
    config.rounds = 1
    config.select.function = "tests.test_iterate:says_nothing"
    with pytest.raises(UserError, match="numbers with a 'score' are needed"):
        iterate(config)


def says_nothing(model: Path, work: Path, config: Any) -> dict[str, float]:
    return {}
