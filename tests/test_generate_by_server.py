"""`python -m rlaifv_jax.generate --server`: the records of local generation, from a server that may misbehave."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax import generate
from rlaifv_jax.cli import guard
from tests.fake_server import Server, read_message, serving
from tests.test_generate import COUNT, write_questions

N = 3


class Talkative:
    """Says something else every time."""

    def __init__(self) -> None:
        self.count = Counter[str]()

    def __call__(self, question: str) -> str:
        self.count[question] += 1
        return f" It is {question} {self.count[question]}.\n"


def ask(url: str, questions: Path, output: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """Status and records."""
    status: list[int] = []
    given = ["--model", "seer", "--server", url, "--questions", questions, "--output", output, "--n", N, "--retries", 1]
    parsed = generate.parse_arguments([*map(str, given), *more])
    refused = guard(lambda: status.append(generate.generate(parsed)))
    records = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    return refused or status[0], records


def test_records_are_those_of_local_generation(tmp_path: Path) -> None:
    questions = write_questions(tmp_path)
    with serving(Server(Talkative(), pause=0.02)) as server:
        status, records = ask(server.url, questions, tmp_path / "a.jsonl", "--top-p", "0.9", "--stop", "###")
        assert ask(server.url, questions, tmp_path / "a.jsonl", "--top-p", "0.9", "--stop", "###") == (0, records)
    assert status == 0
    assert [record["question_id"] for record in records] == list(range(N * COUNT))
    assert list(records[0]) == ["question_id", "ds_question_id", "raw_question", "answer", "metainfos", "model_path"]
    assert {record["answer"] for record in records[:N]} == {f"It is Is there dog? {n}." for n in (1, 2, 3)}
    assert records[0]["model_path"] == "seer"
    assert len(server.requests) == N * COUNT
    assert 1 < server.together <= 8
    first = server.requests[0]
    wanted = {"model": "seer", "temperature": 0.7, "max_tokens": 512, "top_p": 0.9, "stop": ["###"]}
    assert {key: first[key] for key in wanted} == wanted
    assert len({body["seed"] for body in server.requests}) == N * COUNT
    seen = {read_message(body["messages"][0]["content"]) for body in server.requests}
    assert ("Is there dog?", (tmp_path / "0.png").read_bytes()) in seen


def test_greedy_is_one_answer_and_the_server_s_own_top_p(tmp_path: Path) -> None:
    questions = write_questions(tmp_path)
    with serving(Server(Talkative())) as server:
        status, records = ask(server.url, questions, tmp_path / "a.jsonl", "--temperature", "0", "--n", "0")
    assert status == 0
    assert len(records) == COUNT
    assert "top_p" not in server.requests[0]
    assert "stop" not in server.requests[0]


def test_an_answer_has_its_seed_wherever_it_is_asked(tmp_path: Path) -> None:
    questions = write_questions(tmp_path)
    with serving(Server(Talkative())) as server:
        ask(server.url, questions, tmp_path / "a.jsonl")
        whole = {body["seed"] for body in server.requests}
        server.requests.clear()
        ask(server.url, questions, tmp_path / "b.jsonl", "--start", "4")
    assert {body["seed"] for body in server.requests} < whole


def test_faults_become_errors_of_their_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = write_questions(tmp_path, row_1={"image_path": "nowhere.png"}, row_2={"question": "\ud800"})
    faults = [None, 429, 400, "silent", None, "other", "garbage", 500]
    with serving(Server(Talkative(), faults=faults)) as server:
        status, records = ask(server.url, questions, tmp_path / "a.jsonl", "--concurrency", "1", "--retries", "3")
    assert status == 0
    errors = [(record["ds_question_id"], record["error"][:24]) for record in records if "error" in record]
    assert errors == [
        ("0.png", "the server refuses it: E"),
        ("0.png", "the server writes nothin"),
        *[("1.png", "image_missing: no file '")] * N,
        *[("2.png", "not_unicode: the text co")] * N,
    ]
    assert [record["answer"] for record in records if "error" in record] == [""] * len(errors)
    assert [record["server_model"] for record in records if "server_model" in record] == ["other"]
    assert len(server.requests) == N * (COUNT - 2) + 3  # three were sent again
    assert "8 of them are empty and have an error; the first, question_id 1" in capsys.readouterr().err


def test_a_server_that_dies_midway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = write_questions(tmp_path)
    with serving(Server(Talkative(), lives=10)) as server:
        assert ask(server.url, questions, tmp_path / "a.jsonl", "--concurrency", "1") == (2, [])
        assert "--server: http://127.0.0.1" in (said := capsys.readouterr().err)
        assert "gives no usable reply after 1 retries" in said
        server.lives = None
        server.requests.clear()
        status, records = ask(server.url, questions, tmp_path / "a.jsonl", "--concurrency", "1")
    assert status == 0
    assert len(records) == N * COUNT
    assert "3 of 7 questions were answered before" in capsys.readouterr().err
    assert len(server.requests) == N * (COUNT - 3)


def test_other_settings_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = write_questions(tmp_path)
    with serving(Server(Talkative())) as server:
        ask(server.url, questions, tmp_path / "a.jsonl")
        assert ask(server.url, questions, tmp_path / "a.jsonl", "--top-p", "0.9")[0] == 2
    assert "belongs to a run with another top_p (None; now 0.9)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--top-k", "5"], "--top-k is for a model on these devices; leave it out with a --server"),
        (["--num-beams", "3"], "--num-beams is for a model on these devices"),
        (["--repetition-penalty", "1.1"], "--repetition-penalty is for a model on these devices"),
        (["--template", "vicuna"], "--template is for a model on these devices"),
        (["--slots", "4"], "--slots is for a model on these devices"),
        (["--best-of", "4", "--reference", "x", "--n", "0"], "--best-of: let the --server answer first"),
        (["--concurrency", "0"], "--concurrency is 0; it must be 1 or more"),
        (["--server", "nowhere"], "--server is 'nowhere'; an address as"),
        (["--server", ""], "--retries is for requests to a --server, and none is given"),
    ],
)
def test_what_a_server_cannot_take(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_questions(tmp_path)
    assert ask("http://127.0.0.1:9/v1", questions, tmp_path / "a.jsonl", *more) == (2, [])
    assert message in capsys.readouterr().err
