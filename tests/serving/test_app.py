"""The official client against the server, unchanged; and everybody else."""

import base64
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jax
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlaifv_jax import Chat
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.serve import listen
from tests import world
from tests.sampling.talker import QUESTIONS, Talker, pictures
from tests.serving.running import NAME, Running, question, running
from tests.serving.test_protocol import ANY, NAMES

LONG = {"temperature": 0, "max_tokens": 600, "extra_body": {"min_tokens": 600}}


@pytest.fixture(scope="module")
def server(talker: Talker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(talker.folder, tmp_path_factory.mktemp("server"), "--max-body", "1") as found:
        yield found


@pytest.fixture(scope="module")
def chat(talker: Talker) -> Chat:
    found = Chat(talker.folder)
    found.speaker.mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    return found


def test_the_chat_command_s_answers(server: Running, chat: Chat) -> None:
    picture = pictures(2)[1]
    for beams in (1, 3):
        expected = chat.chat(picture, QUESTIONS[1], num_beams=beams, max_new_tokens=20)
        reply = server.ask(question(), temperature=0, max_tokens=20, extra_body={"num_beams": beams})
        assert reply.choices[0].message.content == expected
    text = server.ask([{"role": "user", "content": "what ?"}], temperature=0, max_completion_tokens=9)
    assert text.choices[0].message.content == chat.chat(None, "what ?", num_beams=1, max_new_tokens=9)
    history = [*question(), {"role": "assistant", "content": expected}, {"role": "user", "content": "what ?"}]
    again = server.ask(history, temperature=0, max_tokens=20)
    wanted = chat.chat(picture, "what ?", history=[(QUESTIONS[1], expected)], num_beams=1, max_new_tokens=20)
    assert again.choices[0].message.content == wanted


def test_a_system_message(server: Running, chat: Chat) -> None:
    """The one that the template has changes nothing; another one does, and is counted."""
    how = {"temperature": 0, "max_tokens": 20}
    plain = server.ask(question(), **how)
    text = chat.speaker.prompter.template.system
    for content in (text, [{"type": "text", "text": text}]):
        same = server.ask([{"role": "system", "content": content}, *question()], **how)
        assert same.choices[0].message.content == plain.choices[0].message.content
        assert same.usage.prompt_tokens == plain.usage.prompt_tokens
    other = server.ask([{"role": "developer", "content": "what ?"}, *question()], **how, logprobs=True)
    assert other.usage.prompt_tokens < plain.usage.prompt_tokens
    chat.speaker.prompter.template = chat.speaker.prompter.template.with_system("what ?")
    try:
        expected = chat.chat(pictures(2)[1], QUESTIONS[1], num_beams=1, max_new_tokens=20)
    finally:
        chat.speaker.prompter.template = chat.speaker.prompter.template.with_system(text)
    assert other.choices[0].message.content == expected


def test_counts_and_log_probabilities(server: Running) -> None:
    reply = server.ask(question(), temperature=0, max_tokens=12, logprobs=True, top_logprobs=5)
    (choice,) = reply.choices
    assert (reply.object, reply.model, choice.finish_reason) == ("chat.completion", NAME, "length")
    assert reply.usage.completion_tokens == len(choice.logprobs.content) == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12
    assert "".join(token.token for token in choice.logprobs.content).strip() == choice.message.content
    for token in choice.logprobs.content:
        logprobs = [one.logprob for one in token.top_logprobs]
        assert len(logprobs) == 5
        assert logprobs == sorted(logprobs, reverse=True)
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, logprobs[0])
        assert bytes(token.bytes).decode() == token.token
    assert (
        server.ask(question(), temperature=0, max_tokens=3, logprobs=True).choices[0].logprobs.content[0].top_logprobs
        == []
    )


def test_streams(server: Running) -> None:
    how = {"temperature": 1.0, "seed": 3, "n": 3, "max_tokens": 40, "logprobs": True, "top_logprobs": 1}
    whole = server.ask(question(), **how)
    chunks = list(server.ask(question(), **how, stream=True, stream_options={"include_usage": True}))
    for choice in whole.choices:
        own = [one for chunk in chunks for one in chunk.choices if one.index == choice.index]
        assert own[0].delta.role == "assistant"
        assert "".join(one.delta.content or "" for one in own) == choice.message.content
        assert [one.finish_reason for one in own if one.finish_reason] == [choice.finish_reason]
        told = [token for one in own if one.logprobs for token in one.logprobs.content]
        assert [token.model_dump() for token in told] == [token.model_dump() for token in choice.logprobs.content]
    assert len(chunks) > 8
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], whole.usage.completion_tokens)
    body = {"model": NAME, "messages": question(), "stream": True, "max_tokens": 9}
    raw = server.post(json=body)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("\n\ndata: [DONE]\n\n")
    assert '"usage"' not in raw.text


def test_n_seeds_and_the_prefix(server: Running) -> None:
    how = {"temperature": 1.0, "max_tokens": 16}
    before = [server.number(f"prefix_cache_{name}_total") for name in ("misses", "hits")]
    three, again = (server.ask(question(3), n=3, seed=5, **how) for _ in range(2))
    texts = [choice.message.content for choice in three.choices]
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in again.choices] == texts
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    after = [server.number(f"prefix_cache_{name}_total") for name in ("misses", "hits")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]  # three answers, then three more
    assert three.usage.prompt_tokens_details.cached_tokens == 0
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens
    free = {server.ask(question(3), **how).choices[0].message.content for _ in range(3)}
    assert len(free) == 3  # without a seed
    stopped = server.ask(question(3), seed=5, stop=texts[0][8:10], **how).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (texts[0].split(texts[0][8:10])[0].strip(), "stop")


def test_many_at_once_are_answered_as_alone(server: Running) -> None:
    """Three times as many as there are seats, other settings for each."""
    asked = [(n % 5, {"temperature": n % 3 / 2, "seed": n, "max_tokens": 8 + n, "top_p": 0.9}) for n in range(12)]

    def ask(one: tuple[int, dict[str, Any]]) -> str:
        return server.ask(question(one[0]), **one[1]).choices[0].message.content

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, asked)) == [ask(one) for one in asked]


def test_models_health_and_unknown_places(server: Running) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME
    for call in (
        lambda: client.models.retrieve("other"),
        lambda: client.chat.completions.create(model="other", messages=question()),
        lambda: client.embeddings.create(model=NAME, input="x"),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    root = server.url.replace("/v1/", "")
    assert 0 < server.number("request_seconds_sum") < 60 * server.number("request_seconds_count")
    assert httpx.get(f"{root}/health").json() == {"status": "ok"}
    wrong = httpx.get(f"{server.url}chat/completions").json()["error"]["message"]
    assert wrong == "GET /v1/chat/completions: Method Not Allowed; /v1/chat/completions takes POST"
    assert httpx.get(f"{root}/../etc/passwd").status_code == 404


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "must be application/json"),
        ({"content": b"x" * (3 << 20), "headers": {"content-type": "application/json"}}, 413, "at most 1048576"),
        ({"json": {"model": NAME}}, 400, "messages: Field required"),
        ({"json": {"n": 17}}, 400, "n is 17; this server takes at most 16"),
        ({"json": {"num_beams": 9}}, 400, "num_beams is 9"),
        ({"json": {"max_tokens": 601}}, 400, "max_tokens is 601; this server writes at most 600"),
        ({"json": {"max_tokens": 5, "min_tokens": 6}}, 400, "min_tokens is 6"),
        ({"json": {"temperature": 1e-9}}, 400, "temperature is 1e-09"),
        ({"json": {"tools": [{}]}}, 400, "tools: this server does not support it"),
    ],
)
def test_what_is_refused(server: Running, request_: dict[str, Any], status: int, message: str) -> None:
    if "model" not in request_.get("json", {"model": 0}):
        request_ = {"json": {"model": NAME, "messages": question(), **request_["json"]}}
    reply = server.post(**request_)
    assert reply.status_code == status
    assert message in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([("user", "very " * 10_000)], "at most 256 are possible"),
        ([("user", "x" * 500_000)], "far more positions"),
        ([("user", "")], "neither an image nor a question"),
        ([("assistant", "x")], "messages[0].role"),
        ([("user", "x"), ("user", "y")], "messages[1].role"),
        ([("system", "x")], "the last one must be the user's"),
        ([("system", "x"), ("assistant", "y")], "messages[1].role"),
        ([("user", "x"), ("system", "y")], "messages[1].role"),
        ([("system", question()[0]["content"]), ("user", "x")], "messages[0].content[0].image_url.url: one picture"),
        ([("system", "x" * 500_000), ("user", "x")], "far more positions"),
        ([("user", "x"), ("assistant", "y")], "the last one must be the user's"),
        (
            [("user", "x"), ("assistant", "y"), ("user", question()[0]["content"])],
            "messages[2].content[0].image_url.url",
        ),
        ([("user", question()[0]["content"] * 2)], "messages[0].content[2].image_url.url: one picture"),
    ],
)
def test_conversations_that_cannot_be(server: Running, turns: list[tuple[str, Any]], message: str) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    reply = server.post(json={"model": NAME, "messages": messages})
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, ANY, max_size=3), st.binary(max_size=30), st.integers(0, 2))
def test_whatever_comes_the_server_goes_on(server: Running, change: dict[str, Any], data: bytes, where: int) -> None:
    plain = {"model": NAME, "messages": question(), "max_tokens": 2}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}
    body = (
        plain | [change, {"messages": [change]}, {"messages": [{"role": "user", "content": [picture, change]}]}][where]
    )
    reply = server.post(content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert 200 <= reply.status_code < 500
    assert reply.status_code == 200 or reply.json()["error"]["message"]


def test_who_goes_away_frees_a_seat(server: Running) -> None:
    """Before an answer, in the middle of a stream, and while waiting in the queue."""
    before = server.number("answers_cancelled_total")
    stream = server.ask(question(), stream=True, **LONG)
    next(iter(stream))
    with pytest.raises(openai.APITimeoutError):
        server.client(timeout=0.3).chat.completions.create(
            model=NAME, messages=question(), n=8, seed=1, **{**LONG, "temperature": 1}
        )
    stream.close()
    server.wait_for("seats_taken", 0)
    server.wait_for("requests_inside", 0)
    assert server.number("answers_cancelled_total") > before
    host = urlsplit(server.url)
    with socket.create_connection((host.hostname, host.port)) as half:  # a request that never ends
        half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        half.sendall(b"Content-Length: 1000\r\n\r\n{")
        server.wait_for("requests_inside", 1)
    server.wait_for("requests_inside", 0)
    assert server.ask(question(), max_tokens=3).choices


def test_a_full_queue_late_answers_and_no_grace(talker: Talker, tmp_path: Path) -> None:
    flags = (
        "--slots",
        "1",
        "--queue",
        "1",
        "--timeout",
        "0.7",
        "--grace",
        "0",
        "--api-key-file",
        str(tmp_path / "key"),
    )
    (tmp_path / "key").write_text("open sesame\n")
    with running(talker.folder, tmp_path, *flags) as server:
        with pytest.raises(openai.AuthenticationError, match="the API key is wrong"):
            server.ask(question())
        client = server.client(api_key="open sesame")
        kept = {"model": NAME, "messages": question(), **LONG}
        many = kept | {"temperature": 0.5, "n": 16}
        refusals: list[openai.APIStatusError] = []

        def ask() -> None:
            with pytest.raises(openai.APIStatusError) as found:
                client.chat.completions.create(**many)
            refusals.append(found.value)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(error.status_code for error in refusals) == [429, 429, 504, 504]
        full = next(error for error in refusals if error.status_code == 429)
        assert full.response.headers["retry-after"] == "1"
        assert "too many requests wait" in str(full)
        with pytest.raises(openai.APIError, match=r"took longer than 0.7 seconds"):
            list(client.chat.completions.create(**many, stream=True))
        server.wait_for("seats_taken", 0)
        assert client.chat.completions.create(**(kept | {"max_tokens": 2, "extra_body": {}})).choices
        stream = client.chat.completions.create(**many, stream=True)
        next(iter(stream))
        server.process.send_signal(signal.SIGTERM)  # and no grace
        begun = time.monotonic()
        assert server.process.wait(60) == 0
        assert time.monotonic() - begun < 20


def test_sigterm_ends_in_order(talker: Talker, tmp_path: Path) -> None:
    """What runs is finished, nobody new is let in, status 0."""
    with running(talker.folder, tmp_path, "--prefix-cache", "0", RLAIFV_API_KEY="k") as server:
        client = server.client(api_key="k")
        stream = client.chat.completions.create(model=NAME, messages=question(), stream=True, **LONG)
        pieces = [next(iter(stream))]
        server.process.send_signal(signal.SIGTERM)
        pieces += list(stream)
        assert pieces[-1].choices[0].finish_reason == "length"
        assert server.process.wait(60) == 0
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
        assert server.log.read_text().splitlines()[1:] == ["ended"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "99999"], "--port is 99999; it must be at most 65535"),
        (["--host", "no such host"], "--host no such host --port 8000 cannot be had"),
        (["--timeout", "nan"], "--timeout is nan; it must be above 0"),
        (["--max-n", "0"], "--max-n is 0; it must be 1 or more"),
        (["--allow-local-images", "/nowhere"], "/nowhere is no directory"),
        (["--api-key-file", "/nowhere"], "--api-key-file /nowhere cannot be read"),
        (["--model", "/nowhere"], "nowhere"),
    ],
)
def test_mistakes_of_who_starts_it(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rlaifv_jax import serve
    from rlaifv_jax.cli import guard

    before = signal.getsignal(signal.SIGTERM)
    given = serve.parse_arguments(["--model", "m", *flags])
    assert guard(lambda: serve.serve(given)) == 2
    signal.signal(signal.SIGTERM, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_port_that_is_taken() -> None:
    from rlaifv_jax.errors import UserError

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="Address already in use"):
        listen("127.0.0.1", taken.getsockname()[1])
    with listen("127.0.0.1", 0) as first, pytest.raises(UserError, match="Address already in use"):
        listen("127.0.0.1", first.getsockname()[1])
    with listen("127.0.0.1", 0) as first, socket.create_connection(first.getsockname()):
        pass  # whoever reads the address can go there


def test_sigterm_before_it_serves_and_right_behind_its_first_line(talker: Talker, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlaifv_jax.serve", "--model", talker.folder, "--port", "0", "--slots", "1"]
    for wait in (2.0, 5.0, None):
        with open(tmp_path / "log", "w+b") as log:
            process = subprocess.Popen([*map(str, command)], stderr=log, env=world.environment())
            try:
                if wait is None:
                    world.wait_until(lambda: b"serving" in (tmp_path / "log").read_bytes(), 120)
                else:
                    time.sleep(wait)
                process.send_signal(signal.SIGTERM)
                # It may not have come to listening to signals yet.
                assert process.wait(20) in ((0, -signal.SIGTERM) if wait else (0,))
            finally:
                process.kill()
        assert b"Traceback" not in (tmp_path / "log").read_bytes()


def test_who_is_slow_to_send(talker: Talker, tmp_path: Path) -> None:
    """When the grace is over there is an answer for those who have sent half a request, and no traceback."""
    with running(talker.folder, tmp_path, "--grace", "1") as server:
        place = urlsplit(server.url)
        assert place.hostname
        assert place.port
        with socket.create_connection((place.hostname, place.port), 60) as client:
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 500\r\n\r\n{{".encode())
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            reply = b"".join(iter(lambda: client.recv(1 << 16), b""))
        assert reply.startswith(b"HTTP/1.1 503")
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"] == "the server ends"
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log.read_text()


def test_keys_of_other_alphabets(talker: Talker, tmp_path: Path) -> None:
    with running(talker.folder, tmp_path, RLAIFV_API_KEY="schlüssel") as server:
        for scheme, key, status in (
            ("Bearer", "schlüssel", 200),
            ("bearer", "schlüssel", 200),
            ("", "schlüssel", 401),
            ("Bearer", "x", 401),
        ):
            headers = {"Authorization": f"{scheme} {key}".strip().encode()}
            assert httpx.get(f"{server.url}models", headers=headers).status_code == status
