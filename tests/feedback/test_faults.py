"""Whatever is handed to the stages: wrong records, numbers that are none, functions and servers that misbehave."""

import json
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.pictures import read_image
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.chain import Feedback
from rlaifv_jax.feedback.functions import load_function
from rlaifv_jax.feedback.judged import judge
from rlaifv_jax.feedback.rules import Rules, make_pairs
from rlaifv_jax.records.lock import only_run
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests import world
from tests.fake_server import Server, serving
from tests.feedback.chain import make, make_config, read_lines, read_stage, write_answers, write_lines
from tests.feedback.feeds import answer, judged
from tests.feedback.test_divide_and_question import by_server, split_by_server

# ------------------------------------------------------------------------------------------------- whose picture


def test_pairs_stay_with_their_picture() -> None:
    """A ds_question_id that is a data set's name says nothing of the picture."""
    records, feedback = judged(
        *((answer(n, ["c"], group="coco", picture=f"{n // 2}"), [bool(n % 2)]) for n in range(6))
    )
    kept = make_pairs(judge(records, feedback, Counter()), Rules(cap=1), Counter())
    assert [(pair.chosen.answer, pair.rejected.answer) for pair in kept] == [
        (f"answer {n + 1}", f"answer {n}") for n in (0, 2, 4)
    ]


def test_claims_are_judged_on_their_picture(tmp_path: Path) -> None:
    """As with a ds_question_id for each picture, so with one for all."""
    found = []
    for name, group in (("one", None), ("all", "coco")):
        folder = tmp_path / name
        write_questions(folder, 4, seed=3)
        asked = read_lines(folder / "questions.jsonl")
        records = [
            {
                "question_id": 2 * n + sample,
                "ds_question_id": group or question["ds_question_id"],
                "raw_question": question["question"],
                "answer": text,
                "metainfos": {"image_path": question["image_path"]},
            }
            for n, question in enumerate(asked)
            for sample, text in enumerate(
                ("there is a large red circle in the top left .", "i see a small blue star at the middle center .")
            )
        ]
        write_lines(folder / "answers.jsonl", records)
        config = make_config(folder, MODELS / "labeler", pairs__balance="none")
        config.score.prompt = str(MODELS.parent / "check.txt")
        for stage in ("divide", "question", "score"):
            make(config, stage)
        found.append([record["scores"] for record in read_stage(Path(config.output_dir) / "score")])
    assert found[0] == found[1]
    assert len({json.dumps(scores) for scores in found[0]}) > 4


# ------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    ("stage", "record", "message"),
    [
        ("question", {"facts": [1, 2]}, r"question: 'facts' of question_id 0 is \[1, 2\]; a list of texts"),
        ("question", {"facts": None}, r"'facts' of question_id 0 is None"),
        ("score", {"facts": ["a"], "changed_facts": [["a"]]}, r"score: 'changed_facts' of question_id 0"),
        ("score", {"facts": None, "changed_facts": ["a?"]}, r"score: 'facts' of question_id 0 is None"),
        ("score", {}, r"score: 'facts' of question_id 0 is None; a list of texts is needed"),
    ],
)
def test_fields_that_are_no_lists_of_texts(tmp_path: Path, stage: str, record: dict[str, Any], message: str) -> None:
    write_questions(tmp_path, 1, seed=0)
    given = {"question_id": 0, "raw_question": "q", "answer": "a", "metainfos": {"image_path": "pictures/x.png"}}
    write_lines(tmp_path / "given.jsonl", [given | record])
    config = make_config(tmp_path, MODELS / "labeler")
    config[stage].input = str(tmp_path / "given.jsonl")
    with pytest.raises(UserError, match=message):
        make(config, stage)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.5, 10**400, "0.5", None])
def test_probabilities_that_are_none(value: Any) -> None:
    records, feedback = judged((answer(0, ["a"]), [{"yes": value, "Yes": 0.0, "no": 0.1, "No": 0.0}]))
    with pytest.raises(UserError, match=r"feedback on question_id 0 has scores"):
        judge(records, feedback, Counter())


def test_an_error_of_null_is_none() -> None:
    records, feedback = judged((answer(0, ["a"]), [True]))
    (kept,) = judge(records, [one | {"error": None} for one in feedback], Counter())
    assert kept.verdicts == (("a? Please answer yes or no.", True),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs__difference": math.nan}, "pairs.difference is nan"),
        ({"pairs__difference": 0.0}, "pairs.difference is 0.0"),
        ({"pairs__cap": -1}, "pairs.cap is -1"),
        ({"divide__pieces": -1}, "divide.pieces is -1"),
        ({"divide__function": "", "divide__model": "m", "divide__server": "ftp://x"}, "divide.server is 'ftp://x'"),
        ({"divide__function": "", "divide__model": "m", "divide__server": "http://x:99999"}, "divide.server is"),
        ({"divide__function": "", "divide__model": "m", "divide__concurrency": 0}, "divide.concurrency is 0"),
        ({"divide__function": "", "divide__model": "m", "divide__timeout": math.nan}, "divide.timeout is nan"),
        ({"divide__function": "", "divide__model": "m", "divide__top_p": math.nan}, "divide: top_p is nan"),
        ({"divide__function": "", "divide__model": "m", "divide__temperature": -1.0}, "divide: temperature is -1"),
        ({"divide__function": "", "divide__model": "m", "divide__max_new_tokens": 0}, "divide: max_new_tokens is 0"),
        ({"divide__function": "", "divide__model": "/nope"}, "divide.model: /nope is neither"),
        ({"score__model": "/nope"}, "score.model: /nope is neither a directory nor a hub id"),
        ({"output_dir": ""}, "output_dir is not set"),
    ],
)
def test_settings_are_refused_before_anything_is_done(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_answers(tmp_path)
    with pytest.raises(UserError, match=message):
        make(make_config(tmp_path, MODELS / "labeler", **changes), "all")
    assert not (tmp_path / "out" / "divide").exists()


def test_a_labeler_whose_weights_are_damaged(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_questions(tmp_path, 2, seed=0)
    labeler = tmp_path / "labeler"
    labeler.mkdir()
    for file in (MODELS / "labeler").iterdir():
        (labeler / file.name).write_bytes(file.read_bytes())
    tensors = load_file(labeler / "model.safetensors")
    tensors["language_model.model.norm.weight"][:] = math.nan
    save_file(tensors, labeler / "model.safetensors", metadata={"format": "pt"})
    write_answers(tmp_path)
    out = make(make_config(tmp_path, labeler), "divide", "question", "score")
    for record in read_stage(out / "score"):
        assert record["error"].startswith("not_a_number: ")
        assert set(record["scores"].values()) == {0.0}


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadRow, match="image_missing"):
        read_image({"image_path": "pipe.png"}, str(tmp_path))


def test_pictures_in_another_folder(tmp_path: Path) -> None:
    write_questions(tmp_path / "there", 3, seed=0)
    (tmp_path / "there" / "questions.jsonl").rename(tmp_path / "questions.jsonl")
    config = make_config(tmp_path, MODELS / "labeler", candidates="", questions=str(tmp_path / "questions.jsonl"))
    config.policy.model, config.policy.n, config.policy.max_new_tokens = str(MODELS / "policy"), 2, 40
    with pytest.raises(UserError, match="every answer has an error; see above"):
        make(config, "candidates")
    (tmp_path / "out" / "candidates.jsonl").unlink()
    (tmp_path / "out" / "candidates.jsonl.settings.json").unlink()
    config.image_folder = str(tmp_path / "there")
    make(config, "candidates")
    assert not any("error" in record for record in read_lines(tmp_path / "out" / "candidates.jsonl"))


# ------------------------------------------------------------------------------------------------- functions


def raises(*_: Any) -> list[str]:
    raise KeyError("what is this")


def leaves(*_: Any) -> list[str]:
    sys.exit(0)


def meddles(claims: list[str]) -> list[str]:
    claims.append("mine")
    return [f"{claim}?" for claim in claims[:-1]]


@pytest.mark.parametrize(("name", "kind"), [("raises", "KeyError"), ("leaves", "SystemExit")])
def test_functions_that_fail(tmp_path: Path, name: str, kind: str) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path, divide__function=f"tests.feedback.test_faults:{name}")
    with pytest.raises(
        UserError, match=rf"{name} failed on 'describe the image .', .*: {kind}: .*test_faults.py, line"
    ):
        make(config, "divide")


def test_modules_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in (("broken_one", "1/0"), ("broken_two", "def f(:"), ("broken_three", "raise SystemExit(0)")):
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(UserError, match=f"divide.function: {name}:f cannot be imported "):
            load_function(f"{name}:f", "divide.function")


def test_a_function_cannot_change_the_record(tmp_path: Path) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path, question__function="tests.feedback.test_faults:meddles")
    out = make(config, "divide", "question")
    assert not any("mine" in record["facts"] for record in read_stage(out / "question"))


# ------------------------------------------------------------------------------------------------- servers


def test_a_server_that_takes_nothing(tmp_path: Path) -> None:
    """Its first refusals are not kept: they are hardly the prompts' fault."""
    write_answers(tmp_path)
    with serving(Server(split_by_server, faults=[422] * 100)) as server:
        config = by_server(tmp_path, server.url, divide__concurrency=2)
        with pytest.raises(UserError, match=r"divide: not one of the first 8 prompts is taken: .*fault 422"):
            make(config, "divide")
        server.faults.clear()
        assert not any("error" in record for record in read_stage(make(config, "divide") / "divide"))


def test_a_server_that_will_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as one that finds a prompt indecent: an error of that record, and the run goes on."""
    write_answers(tmp_path)
    with serving(Server(split_by_server, faults=[None, "silent"])) as server:
        records = read_stage(make(by_server(tmp_path, server.url, divide__concurrency=1), "divide") / "divide")
    assert [record.get("error") for record in records if record.get("error")] == [
        "the server writes nothing (finish_reason 'stop')"
    ]
    assert "the first error: the server writes nothing" in capsys.readouterr().err


def test_answers_that_have_come_are_kept(tmp_path: Path) -> None:
    """The first request fails; the others, which were sent meanwhile, are not asked again."""
    write_answers(tmp_path)
    with serving(Server(split_by_server, faults=[401], pause=0.5)) as server:
        config = by_server(tmp_path, server.url, divide__concurrency=4)
        with pytest.raises(UserError, match="fault 401"):
            make(config, "divide")
        asked = len(server.requests)
        make(config, "divide")
    assert asked > 1
    assert len(server.requests) == 24 + 1  # of all requests only the failed one was sent in vain


def test_ctrl_c_does_not_wait_for_a_server(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with serving(Server(split_by_server, pause=60)) as server:
        (tmp_path / "config.py").write_text(
            "from pathlib import Path\nfrom tests.feedback.test_divide_and_question import by_server\n\n"
            f"def get_config():\n    return by_server(Path({str(tmp_path)!r}), {server.url!r}, divide__timeout=100.0)\n"
        )
        command = [sys.executable, "-m", "rlaifv_jax.feedback", "divide", f"--config={tmp_path / 'config.py'}"]
        started = time.monotonic()
        world.kill_when(command, lambda: bool(server.requests), how=2)
        assert time.monotonic() - started < 40


# ------------------------------------------------------------------------------------------------- two at once


def test_two_runs_in_one_directory(tmp_path: Path) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path)
    make(config, "divide", "question")
    config.pairs.feedback = config.pairs.answers = str(tmp_path / "out" / "question")
    with only_run(tmp_path / "out" / "pairs"), pytest.raises(UserError, match="another run is writing it"):
        Feedback(config).pairs()
    with only_run(tmp_path / "out" / "divide"), pytest.raises(UserError, match="another run is writing it"):
        Feedback(config).divide()
