"""The commands of `python -m eval`, as people type them; judged by a server over real HTTP."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval import commands, flags
from eval.mmhal import FILE, TYPES
from rlaifv_jax.errors import UserError
from tests.fake_server import Server, serving

COUNT = 24
JUDGE = ("--judge-model", "m", "--retries", "1", "--concurrency", "4")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """MMHal-Bench with other questions, and answers to them."""
    folder = tmp_path / "data"
    folder.mkdir()
    questions = [
        {
            "question_type": TYPES[n % 8],
            "image_id": f"{n}",
            "image_content": ["Dog"],
            "question": f"what is number {n} ?",
            "gt_answer": "A dog.",
        }
        for n in range(COUNT)
    ]
    (folder / FILE).write_text(json.dumps(questions))
    answers = [{"question": f"what is number {n} ?", "image_id": f"{n}", "text": f"<{n}>"} for n in range(COUNT)]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return folder


def rate(prompt: str) -> str:
    number = int(prompt.rsplit("<", 1)[1].split(">")[0])
    return f"So be it.\nRating: {number % 7}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(rate)) as running:
        yield running


def eval_(*arguments: Any) -> int:
    given = flags.parse([str(argument) for argument in arguments], "doc")
    return int(getattr(commands, given.verb)(given))


def run(data: Path, out: Path, server: Server, *more: Any) -> int:
    given = ("--data", data, "--answers", data / "answers.jsonl", "--output", out, "--judge-server", server.url)
    return eval_("run", "mmhal", *given, *JUDGE, *more)


def scores(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return found


def test_run(data: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(data, out, server) == 0
    report, expected = scores(out), [n % 7 for n in range(COUNT)]
    assert report["metrics"]["Average score"] == sum(expected) / COUNT
    assert report["metrics"]["Hallucination rate"] == pytest.approx(100 * sum(x < 3 for x in expected) / COUNT)
    assert (report["n"], report["n_failed"], report["mode"], report["prompts"]) == (
        24,
        0,
        "compat",
        {"mmhal": "packaged"},
    )
    assert (report["judge"]["model"], report["judge"]["returned"]) == ("m", ["m"])
    assert report["tokens"] == {"input": 7 * COUNT, "output": 3 * COUNT, "total": 10 * COUNT}
    assert set(report["hashes"]) == {"data", "answers", "prompts"}
    assert report["notes"] == [f"the data is not as published: {FILE} is not the published file; fetch it again"]
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [line["values"]["score"] for line in lines] == expected
    assert lines[0]["replies"][0]["text"] == "So be it.\nRating: 0"
    assert (out / "index.html").exists()
    assert "Hallucination rate" in capsys.readouterr().out
    calls = len(server.requests)
    assert run(data, tmp_path / "out", server) == 0
    assert len(server.requests) == calls == COUNT  # nothing is paid for twice


def test_a_server_that_dies(data: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends, counts, and tells no score; the same command asks for the rest alone."""
    out, server.lives = tmp_path / "out", 10
    assert run(data, out, server, "--retries", 0) == 1
    report = scores(out)
    paid = report["n"] - report["n_failed"]
    assert 0 < paid <= 10
    assert (report["metrics"], report["partial"]) == ({}, True)
    assert f"{report['n_failed']} of 24 have no verdict" in capsys.readouterr().err
    server.lives = None
    server.requests.clear()
    assert run(data, out, server) == 0
    assert len(server.requests) == 24 - paid
    assert scores(out)["metrics"]["Average score"] == sum(n % 7 for n in range(COUNT)) / COUNT


def test_allow_partial(data: Path, tmp_path: Path, server: Server) -> None:
    answers = (data / "answers.jsonl").read_text().splitlines()
    (data / "answers.jsonl").write_text("\n".join(answers[:-4]))
    assert run(data, tmp_path / "out", server) == 1
    assert run(data, tmp_path / "out", server, "--allow-partial") == 0
    report = scores(tmp_path / "out")
    assert (report["n_failed"], report["partial"]) == (4, True)
    assert report["metrics"]["Average score"] == sum(n % 7 for n in range(COUNT - 4)) / (COUNT - 4)


def test_repeat_and_dry_run(data: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, tmp_path / "out", server, "--repeat", 3, "--dry-run") == 0
    assert "mmhal: 72 calls (0 more are in the cache)" in capsys.readouterr().out
    assert not server.requests
    assert not (tmp_path / "out").exists()
    assert run(data, tmp_path / "out", server, "--repeat", 3) == 0
    report = scores(tmp_path / "out")
    assert len(server.requests) == 72
    assert (len(report["runs"]), report["spread"]["Average score"]) == (3, 0)
    assert run(data, tmp_path / "out", server, "--repeat", 4, "--dry-run") == 0
    assert "mmhal: 24 calls (72 more are in the cache)" in capsys.readouterr().out


def test_a_prompt_of_one_s_own(data: Path, tmp_path: Path, server: Server) -> None:
    own = tmp_path / "official.txt"
    own.write_text("contents {} question {} reference {} answer {}")
    assert run(data, tmp_path / "out", server, "--judge-prompt", own) == 0
    assert server.requests[0]["messages"][-1]["content"].startswith("contents Dog question what is number")
    assert scores(tmp_path / "out")["prompts"] == {"mmhal": str(own)}


def test_compare(data: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(data, first, server)
    server.answer = lambda prompt: "Rating: 6"
    run(data, second, server)
    capsys.readouterr()
    assert eval_("compare", first, second, "--json", tmp_path / "table.json") == 0
    text = capsys.readouterr().out
    assert "LLaVA-1.5-7B (published)" in text
    (block,) = json.loads((tmp_path / "table.json").read_text())
    gap, low, high = block["rows"][1]["differences"]["Average score"]
    mean = sum(n % 7 for n in range(COUNT)) / COUNT
    assert gap == pytest.approx(6 - mean)
    assert low < gap < high
    assert not any(row["name"].endswith("(published)") for row in _without_published(first, second))


def _without_published(*runs: Path) -> list[dict[str, Any]]:
    from eval.compare import open_runs, table

    (block,) = table([run for path in runs for run in open_runs(path)], published=False)
    return list(block["rows"])


def test_all(data: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "answers"
    answers.mkdir()
    (answers / "mmhal.jsonl").write_bytes((data / "answers.jsonl").read_bytes())
    given = ("--data", data, "--answers", answers, "--output", tmp_path / "all", "--judge-server", server.url, *JUDGE)
    assert eval_("all", *given, "--benchmarks", "mmhal") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("mmhal ")
    assert eval_("all", *given) == 0
    said = capsys.readouterr()
    assert "refomb: left out: its data is not in" in said.err
    assert [line.split()[0] for line in said.out.splitlines()[-1:]] == ["mmhal"]
    (answers / "mmhal.jsonl").write_text("{bad")
    with pytest.raises(UserError, match="no benchmark can be scored"):
        eval_("all", *given)
    err = capsys.readouterr().err
    assert "mmhal: not scored:" in err
    assert "holds an earlier result" in err
    with pytest.raises(UserError, match="no benchmark is called 'bogus'"):
        eval_("all", *given, "--benchmarks", "mmhal", "bogus")


def test_prompts_of_all_are_sorted_out(data: Path, tmp_path: Path, server: Server) -> None:
    answers, own = tmp_path / "answers", tmp_path / "own.txt"
    answers.mkdir()
    (answers / "mmhal.jsonl").write_bytes((data / "answers.jsonl").read_bytes())
    own.write_text("{contents} {question} {reference} {answer}")
    given = ("--data", data, "--answers", answers, "--output", tmp_path / "all", "--judge-server", server.url, *JUDGE)
    assert eval_("all", *given, "--judge-prompt", f"mmhal={own}", "--swap-order") == 0
    assert scores(tmp_path / "all" / "mmhal")["prompts"] == {"mmhal": str(own)}
    with pytest.raises(UserError, match="which prompt is it"):
        eval_("all", *given, "--judge-prompt", f"nothing={own}")


def test_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_("data", "mmhal", "--data", data) == 1
    assert f"[ALTERED] {FILE}" in capsys.readouterr().out
    assert eval_("data", "--data", data) == 1
    assert "[missing] RefoMB" in capsys.readouterr().out.replace("gpt4v_", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing", "--answers", "a"], "no benchmark is called 'nothing'; there are object_halbench, mmhal"),
        (["run", "mmhal", "--answers", "a"], "mmhal needs a judge: --judge-model NAME"),
        (["run", "pope", "--answers", "a"], "has no coco_pope_random.json; python -m eval data says"),
        (["run", "mmhal", "--answers", "none.jsonl", *JUDGE], "none.jsonl cannot be read"),
        (["run", "mmhal", "--answers", "a", *JUDGE, "--judge-local", "x"], "give one of them"),
        (["run", "mmhal", "--answers", "a", *JUDGE, "--judge-server", "nowhere"], "the judge's server is 'nowhere'"),
        (["run", "mmhal", "--model", "m", *JUDGE], "24 of 24 pictures are not in .*/images, the first of them 0"),
        (["run", "object_halbench", "--answers", "a"], "no .*questions|holds no questions|jsonl"),
        (["run", "mmhal", "--answers", "a", *JUDGE, "--swap-order"], "--swap-order: mmhal shows the judge one answer"),
        (["run", "mmhal", "--answers", "a", *JUDGE, "--judge-prompt", "mmhal="], "which prompt is it"),
        (["data", "mmhal", "--small-world", "3"], "make data of object_halbench, not of mmhal"),
    ],
)
def test_bad_input(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    out = () if arguments[0] == "data" else ("--output", tmp_path / "out")
    with pytest.raises(UserError, match=message):
        eval_(*arguments, "--data", data, *out)


def test_outputs_that_cannot_be(data: Path, tmp_path: Path, server: Server) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "below", Path("/proc/none"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"--output: .* cannot be a folder"):
            run(data, out, server)
    assert not server.requests
    run(data, tmp_path / "out", server)
    with pytest.raises(UserError, match=r"--json: .* cannot be written"):
        eval_("compare", tmp_path / "out", "--json", tmp_path)


def test_answers_from_a_pipe(data: Path, tmp_path: Path, server: Server) -> None:
    pipe, content = tmp_path / "pipe", (data / "answers.jsonl").read_bytes()
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    given = ("--data", data, "--answers", pipe, "--output", tmp_path / "out", "--judge-server", server.url)
    assert eval_("run", "mmhal", *given, *JUDGE) == 0
    writer.join()
    assert scores(tmp_path / "out")["hashes"]["answers"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda report, items: report.update(metrics=None),
        lambda report, items: report.update(judge="x"),
        lambda report, items: report.update(mode="other"),
        lambda report, items: report.update(benchmark="other"),
        lambda report, items: items[0]["counts"].pop("score"),
        lambda report, items: items[0]["counts"].update(score=float("nan")),
    ],
)
def test_damaged_runs_are_not_compared(data: Path, tmp_path: Path, server: Server, damage: Any) -> None:
    out = tmp_path / "out"
    run(data, out, server)
    report = scores(out)
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    damage(report, items)
    (out / "scores.json").write_text(json.dumps(report))
    (out / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    with pytest.raises(UserError, match="is damaged"):
        eval_("compare", out)
