"""Claims and questions by functions, by a server that misbehaves, and by a language model on the devices."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from rlaifv_jax.errors import UserError
from tests.convert.llamas import TinyLlama
from tests.fake_server import Server, serving
from tests.feedback.chain import SENTENCES, make, make_config, read_lines, read_stage, write_answers, write_lines


def split_by_server(prompt: str) -> str:
    answer = prompt.partition("Answer: ")[2]
    return "### Facts:\n" + "\n".join(f"- {part.strip()} ." for part in answer.split(" .") if part.strip())


def ask_by_server(prompt: str) -> str:
    claims = [line[2:] for line in prompt.partition("sentences:\n- {")[2].splitlines() if line.startswith("- ")]
    return "\n".join(f"- Is it so that {claim}?" for claim in claims if not claim.startswith("{") and claim != "...")


def by_server(folder: Path, url: str, **changes: Any) -> ConfigDict:
    sections = {f"{stage}__{key}": value for stage in ("divide", "question") for key, value in server_keys(url).items()}
    return make_config(folder, **(sections | changes))


def server_keys(url: str) -> dict[str, Any]:
    return {"function": "", "server": url, "model": "helper", "retries": 2, "timeout": 1.0}


# ------------------------------------------------------------------------------------------------- functions


def test_by_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path)
    records = read_stage(make(make_config(tmp_path), "divide", "question") / "question")
    before = read_lines(tmp_path / "answers.jsonl")
    assert [record["question_id"] for record in records] == list(range(24))
    for record, given in zip(records, before, strict=True):
        assert {key: record[key] for key in given} == given
        assert " ".join(record["facts"]) == given["answer"]
        assert record["raw_facts"] == "\n".join(f"- {claim}" for claim in record["facts"])
        assert len(record["changed_facts"]) == len(record["facts"])
    assert records[0]["changed_facts"] == ["is there in the top left a large red circle ?"]
    said = capsys.readouterr().err
    assert "divide: 24 answers, 60 claims" in said
    assert "question: 60 questions about 24 answers" in said


def not_a_list(*_: Any) -> str:
    return "a"


def one_too_few(claims: list[str]) -> list[str]:
    return claims[1:]


def test_functions_that_do_not_fit(tmp_path: Path) -> None:
    write_answers(tmp_path)
    me = "tests.feedback.test_divide_and_question"
    for name, message in (
        ("nothing", "write package.module:function"),
        ("no_such_package:x", "cannot be imported"),
        (f"{me}:no_such_function", "cannot be imported"),
        (f"{me}:SENTENCES", "is no function but tuple"),
        (f"{me}:not_a_list", "returned 'a' where a list of claims is needed"),
    ):
        with pytest.raises(UserError, match=message):
            make(make_config(tmp_path, divide__function=name, output_dir=str(tmp_path / name)), "divide")
    config = make_config(tmp_path, question__function=f"{me}:one_too_few")
    records = read_stage(make(config, "divide", "question") / "question")
    assert records[0]["error"] == "claims_without_questions: 1 claims, 0 questions"
    assert all("error" in record for record in records)


# ------------------------------------------------------------------------------------------------- answers as they come


def test_numbers_that_are_missing_or_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = read_lines(write_answers(tmp_path))
    for record in answers:
        record["question_id"] //= 4  # as the original's generator repeats them
    write_lines(tmp_path / "answers.jsonl", answers)
    records = read_stage(make(make_config(tmp_path), "divide") / "divide")
    assert [record["question_id"] for record in records] == list(range(24))
    assert [record["given_question_id"] for record in records] == [n // 4 for n in range(24)]
    assert "question_id is missing or not unique" in capsys.readouterr().err


def test_answers_that_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = read_lines(write_answers(tmp_path))
    answers[1]["answer"] = " "
    answers[2] |= {"answer": "", "error": "image_missing: no file"}
    write_lines(tmp_path / "answers.jsonl", answers)
    out = make(make_config(tmp_path), "divide", "question")
    records = read_stage(out / "question")
    assert records[1]["facts"] == records[2]["facts"] == records[1]["changed_facts"] == []
    assert records[2]["error"] == "image_missing: no file"
    assert "2 of 24 answers without claims" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"raw_question": "q"}, "record 24: has none of 'answer', 'text'"),
        ({"answer": "a"}, "record 24: has none of 'raw_question', 'prompt', 'question'"),
        ({"raw_question": "q", "answer": 5}, "record 24: 'answer' is of type int"),
    ],
)
def test_records_that_are_no_answers(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    write_lines(tmp_path / "answers.jsonl", [*read_lines(write_answers(tmp_path)), record])
    with pytest.raises(UserError, match=message):
        make(make_config(tmp_path), "divide")


def test_the_original_s_array_and_older_names(tmp_path: Path) -> None:
    answers = read_lines(write_answers(tmp_path))
    for record in answers:
        record["text"], record["prompt"] = record.pop("answer"), record.pop("raw_question")
    (tmp_path / "answers.jsonl").write_text(json.dumps(answers))
    records = read_stage(make(make_config(tmp_path), "divide") / "divide")
    assert records[3]["facts"] == list(SENTENCES)


# ------------------------------------------------------------------------------------------------- a server


def test_by_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    write_answers(tmp_path)
    with serving(Server(lambda p: split_by_server(p) if "### Facts" in p else ask_by_server(p), pause=0.02)) as server:
        records = read_stage(make(by_server(tmp_path, server.url), "divide", "question") / "question")
    assert records[0]["facts"] == [SENTENCES[0]]
    assert records[0]["changed_facts"] == [f"Is it so that {SENTENCES[0]}?"]
    assert all(len(record["facts"]) == len(record["changed_facts"]) for record in records)
    assert len(server.requests) == 48
    first = server.requests[0]
    assert {key: first[key] for key in ("model", "temperature", "top_p", "max_tokens", "seed")} == {
        "model": "helper",
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 256,
        "seed": 0,
    }
    assert 1 < server.together <= 8


def test_faults_are_survived_and_bounded(tmp_path: Path) -> None:
    """Busy, broken, garbled or slow: asked again. Refused for good: one record. Broken for good: the run stops."""
    write_answers(tmp_path)
    config = by_server(tmp_path, "", divide__concurrency=1)
    server = Server(split_by_server, faults=[429, 500, 400, "garbage", "empty", "hang"])
    with serving(server):
        config.divide.server = server.url
        records = read_stage(make(config, "divide") / "divide")
    errors = [record["error"] for record in records if "error" in record]
    assert len(errors) == 1
    assert errors[0].startswith("the server refuses it: ")
    assert "fault 400" in errors[0]
    assert len(server.requests) == 24 + 5  # five requests were sent again

    config = by_server(tmp_path, "", divide__concurrency=1, output_dir=str(tmp_path / "again"))
    server = Server(split_by_server, faults=[None] * 10 + [500] * 100)
    with serving(server):
        config.divide.server = server.url
        with pytest.raises(UserError, match=r"divide\.server: .* (fault 500|no usable reply)"):
            make(config, "divide")
        assert len(server.requests) == 10 + 3
        server.faults.clear()
        again = read_stage(make(config, "divide") / "divide")
    assert len(server.requests) == 13 + 14  # what was finished is not asked again
    assert [record["facts"] for record in again if "error" not in record]
    assert not any("error" in record for record in again)


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_will_never_do(tmp_path: Path, status: int) -> None:
    write_answers(tmp_path)
    with serving(Server(split_by_server, faults=[status] * 100)) as server:
        with pytest.raises(UserError, match=rf"divide\.server: .*fault {status}"):
            make(by_server(tmp_path, server.url), "divide")
        assert len(server.requests) <= 24


def test_nobody_there(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with pytest.raises(UserError, match="gives no usable reply after 0 retries"):
        make(by_server(tmp_path, "http://127.0.0.1:9/v1", divide__retries=0), "divide")


def test_the_rate_is_kept(tmp_path: Path) -> None:
    write_answers(tmp_path, 2)
    with serving(Server(split_by_server)) as server:
        started = time.monotonic()
        make(by_server(tmp_path, server.url, divide__requests_per_minute=600.0), "divide")
    assert time.monotonic() - started >= 7 * 0.1  # eight requests, a tenth of a second apart


def test_a_list_that_was_cut_off(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with serving(Server(split_by_server, finish="length")) as server:
        records = read_stage(make(by_server(tmp_path, server.url), "divide") / "divide")
    assert records[3]["facts"] == list(SENTENCES[:3])
    assert records[3]["raw_facts_cut"] is True


def test_a_prompt_that_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path)
    with serving(Server(split_by_server)) as server:
        out = make(by_server(tmp_path, server.url, divide__pieces=80), "divide")
    cut = [record.get("answer_cut", False) for record in read_stage(out / "divide")]
    assert cut == [len(record["answer"].split(" ")) > 20 for record in read_lines(tmp_path / "answers.jsonl")]
    assert f"{sum(cut)} of 24 answers whose end the prompt had no room for" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- claims ≠ questions


def loses_one(prompt: str) -> str:
    """Drops the last question where there are several."""
    lines = ask_by_server(prompt).splitlines()
    return "\n".join(lines[:-1] if len(lines) > 1 else lines)


@pytest.mark.parametrize("mismatch", ["repair", "report", "zip"])
def test_claims_and_questions_of_unequal_number(
    tmp_path: Path, mismatch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(tmp_path)
    make(make_config(tmp_path), "divide")
    with serving(Server(loses_one)) as server:
        config = by_server(tmp_path, server.url, question__mismatch=mismatch)
        records = read_stage(make(config, "question") / "question")
    said = capsys.readouterr().err
    for record in records:
        several = len(record["facts"]) > 1
        if mismatch == "repair":
            assert record["changed_facts"] == [f"Is it so that {claim}?" for claim in record["facts"]]
            assert record.get("questions_repaired", False) == several
        elif mismatch == "report":
            assert ("error" in record) == several
        else:
            assert len(record["changed_facts"]) == len(record["facts"]) - several
            assert "error" not in record
    repaired = "18 of 24 answers asked for one claim at a time"
    reported = "18 of 24 answers with an error, which will not be scored"
    assert {"repair": repaired, "report": reported, "zip": "18 of 24 answers whose claims and questions"}[
        mismatch
    ] in said


def test_what_cannot_be_repaired_is_reported(tmp_path: Path) -> None:
    write_answers(tmp_path)
    make(make_config(tmp_path), "divide")
    with serving(Server(lambda prompt: "- one?\n- two?\n- three?\n- four?\n- five?")) as server:
        records = read_stage(make(by_server(tmp_path, server.url), "question") / "question")
    assert all(record["error"].endswith(f"{len(record['facts'])} claims, 5 questions") for record in records)
    assert len(server.requests) == 24 + 60


def test_a_single_claim_is_asked_about_once_more(tmp_path: Path) -> None:
    """The prompt is the same, so the seed must not be."""
    write_answers(tmp_path, 1)
    make(make_config(tmp_path), "divide")
    server = Server(ask_by_server, faults=["two"])
    with serving(server):
        records = read_stage(make(by_server(tmp_path, server.url, question__concurrency=1), "question") / "question")
    assert [record.get("questions_repaired", False) for record in records] == [True, False, False, False]
    asked = [request for request in server.requests if request["messages"] == server.requests[0]["messages"]]
    assert [request["seed"] for request in asked] == [0, 1]


def test_a_mismatch_that_means_nothing(tmp_path: Path) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path, question__mismatch="guess")
    make(config, "divide")
    with pytest.raises(UserError, match=r"question\.mismatch is 'guess'"):
        make(config, "question")


# ------------------------------------------------------------------------------------------------- a model here


def test_by_a_language_model_here(tmp_path: Path) -> None:
    """A tiny Llama-3 with random weights: what it writes is nonsense, and the same after a stop."""
    write_answers(tmp_path, 2)
    llama = str(TinyLlama().write(tmp_path / "llama"))
    settings = {
        "function": "",
        "model": llama,
        "dtype": "float32",
        "max_new_tokens": 24,
        "temperature": 1.0,
        "slots": 4,
    }
    changes = {f"{stage}__{key}": value for stage in ("divide", "question") for key, value in settings.items()}
    out = make(make_config(tmp_path, **changes), "divide", "question")
    manifest = json.loads((out / "divide" / "manifest.json").read_text())
    assert manifest["model"] == llama
    assert manifest["conversation template"].startswith("the tokenizer's own (")
    assert manifest["sampling"]["top_k"] == 50
    assert len(manifest["weights"]) == len(manifest["prompt"]) == len(manifest["notes"]["code"]) == 16
    records = read_stage(out / "divide")
    assert len({record["raw_facts"] for record in records}) > 4
    assert all("raw_changed_facts" in record for record in read_stage(out / "question"))
    again = make(make_config(tmp_path, output_dir=str(tmp_path / "again"), **changes), "divide")
    assert read_stage(again / "divide") == records


def test_a_model_has_to_be_named(tmp_path: Path) -> None:
    write_answers(tmp_path)
    with pytest.raises(UserError, match=r"divide\.model is not set"):
        make(make_config(tmp_path, divide__function=""), "divide")
