"""Judges: behind a server that misbehaves, out of the cache, and on the devices."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.judge.cache import ReplyCache, key_of
from eval.judge.estimate import Estimate, cost_of
from eval.judge.local import LocalJudge, LocalOptions
from eval.judge.request import Judge, Request, Verdict
from eval.judge.server import DEAD, JudgeOptions, ServerJudge
from eval.judge.trial import HOTTER
from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from tests import world
from tests.convert.llamas import TinyLlama
from tests.fake_server import Server, serving

COUNT = 20


def requests(count: int = COUNT, **changes: Any) -> list[tuple[int, Request]]:
    fields = {"system": "You judge.", "temperature": 0.0, "max_tokens": 16}
    return [(n, Request(**{"stage": "rate", "user": f"rate answer {n}", **fields, **changes})) for n in range(count)]


def rates(prompt: str) -> str:
    return f"Rating: {int(prompt.split()[-1]) % 7}"


def parse(text: str) -> int | None:
    found = re.fullmatch(r"Rating: (\d)", text)
    return int(found[1]) if found else None


def options(server: Server | str, **changes: Any) -> JudgeOptions:
    url = server if isinstance(server, str) else server.url
    return JudgeOptions(**{"server": url, "model": "wise", "concurrency": 1, "retries": 1, "timeout": 0.5, **changes})


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "replies.jsonl") as opened:
        yield opened


def ask(judge: Judge, asked: list[tuple[int, Request]] | None = None) -> dict[int, Verdict[int]]:
    """Verdicts by tag; none is lost, none comes twice."""
    asked = requests() if asked is None else asked
    found = list(judge.ask(asked, parse))
    assert sorted(tag for tag, _ in found) == [tag for tag, _ in asked]
    return dict(found)


def again(server: Server, path: Path, **changes: Any) -> dict[int, Verdict[int]]:
    """A second run on the same cache."""
    with ReplyCache(path) as cache:
        return ask(ServerJudge(options(server, **changes), cache))


def failed(verdicts: dict[int, Verdict[int]]) -> list[int]:
    assert all((verdict.value is None) == bool(verdict.error) for verdict in verdicts.values())
    return sorted(tag for tag, verdict in verdicts.items() if verdict.error)


# ------------------------------------------------------------------------------------------------- what is sent


def test_every_request_gets_its_verdict(cache: ReplyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serving(Server(rates, pause=0.05)) as server:
        judge: Judge = ServerJudge(options(server, concurrency=4), cache)
        verdicts = ask(judge)
    assert [verdicts[n].value for n in range(COUNT)] == [n % 7 for n in range(COUNT)]
    (reply,) = verdicts[3].replies
    assert (reply.text, reply.model, reply.error, reply.cached) == ("Rating: 3", "wise", "", False)
    assert (reply.input_tokens, reply.output_tokens) == (7, 3)
    assert server.together == 4
    assert server.keys == {"Bearer secret"}
    sent = min(server.requests, key=lambda body: body["messages"][1]["content"])
    assert sent == {
        "model": "wise",
        "messages": [{"role": "system", "content": "You judge."}, {"role": "user", "content": "rate answer 0"}],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 16,
    }
    assert judge.settings["host"] == server.url.split("/")[2]
    assert "secret" not in json.dumps(dict(judge.settings)) + cache.path.read_text()


def test_the_address_may_come_from_the_environment(cache: ReplyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server(rates)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert not failed(ask(ServerJudge(options(""), cache)))
    monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
    with pytest.raises(UserError, match="the judge's server is 'nowhere/'"):
        ServerJudge(options(""), cache)
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert ServerJudge(options(""), cache).settings["host"] == "api.openai.com"


@pytest.mark.parametrize(
    ("system", "user", "as_user", "sent"),
    [
        ("rate 1", "", False, [("system", "rate 1")]),
        ("rate 1", "", True, [("user", "rate 1")]),
        ("You judge.", "rate 1", True, [("user", "You judge.\n\nrate 1")]),
        ("", "rate 1", False, [("user", "rate 1")]),
    ],
)
def test_messages(cache: ReplyCache, system: str, user: str, as_user: bool, sent: list[tuple[str, str]]) -> None:
    with serving(Server(rates)) as server:
        judge = ServerJudge(options(server, system_as_user=as_user), cache)
        assert ask(judge, requests(1, system=system, user=user))[0].value == 1
    assert [(message["role"], message["content"]) for message in server.requests[0]["messages"]] == sent
    assert judge.settings["system_as_user"] is as_user


def test_the_rate_is_kept(cache: ReplyCache) -> None:
    with serving(Server(rates)) as server:
        started = time.monotonic()
        ask(ServerJudge(options(server, concurrency=4, requests_per_minute=600.0), cache), requests(8))
    assert 0.7 <= time.monotonic() - started < 3  # eight requests, a tenth of a second apart


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "model is not set"),
        ({"server": "host:8000"}, "server is 'host:8000'"),
        ({"server": "http://host:0"}, "server is 'http://host:0'"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"parse_retries": 1.5}, "parse_retries is 1.5"),
        ({"requests_per_minute": float("nan")}, "requests_per_minute is nan"),
        ({"timeout": 0.0}, "timeout is 0.0"),
    ],
)
def test_options_that_mean_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        JudgeOptions(**({"server": "http://host:8000/v1", "model": "wise"} | changes))


# ------------------------------------------------------------------------------------------------- faults


def test_faults_are_survived(cache: ReplyCache) -> None:
    """Each is followed by one more request, and no verdict is lost."""
    faults = [429, 500, 503, "garbage", "empty", "hang", "drop", "mumble"]
    with serving(Server(rates, faults=[fault for one in faults for fault in (one, None)])) as server:
        verdicts = ask(ServerJudge(options(server), cache))
    assert not failed(verdicts)
    assert len(server.requests) == COUNT + len(faults)
    assert [len(verdicts[n].replies) for n in range(9)] == [1, 1, 1, 1, 1, 1, 1, 2, 1]


def test_what_retries_do_not_help_is_an_error_of_one_request(cache: ReplyCache) -> None:
    faults: list[Any] = [None, 429, 429, 500, 500, "garbage", "garbage", "empty", "empty", "hang", "hang", 400]
    with serving(Server(rates, faults=faults)) as server:
        verdicts = ask(ServerJudge(options(server), cache))
        assert failed(verdicts) == [1, 2, 3, 4, 5, 6]
        for tag, reason in enumerate(
            ("fault 429", "fault 500", "JSONDecodeError", "without choices", "timed", "400"), 1
        ):
            assert reason in verdicts[tag].error
            assert [reply.error for reply in verdicts[tag].replies] == [verdicts[tag].error]
        sent = len(server.requests)
        cache.close()
        assert not failed(again(server, cache.path))
    assert len(server.requests) == sent + 6  # only what failed


def test_a_server_that_dies(cache: ReplyCache) -> None:
    with serving(Server(rates, lives=5)) as server:
        started = time.monotonic()
        verdicts = ask(ServerJudge(options(server, retries=0), cache), requests(500))
        assert time.monotonic() - started < 10
        assert failed(verdicts) == list(range(5, 500))
        assert len(server.requests) == 5 + DEAD
        assert f"no sign {DEAD} times in a row" in verdicts[499].error
        cache.close()
        server.lives = None
        verdicts = again(server, cache.path)
        assert not failed(verdicts)
        assert [verdicts[n].replies[0].cached for n in range(6)] == [True] * 5 + [False]
        sent = len(server.requests)
        again(server, cache.path)
    assert sent == 5 + DEAD + COUNT - 5
    assert len(server.requests) == sent


def test_a_server_that_comes_and_goes_is_not_dead(cache: ReplyCache) -> None:
    faults = [None, *["drop"] * (DEAD - 1), None, *["drop"] * (DEAD - 1), 500, *["drop"] * (DEAD - 1)]
    with serving(Server(rates, faults=faults)) as server:
        verdicts = ask(ServerJudge(options(server, retries=0), cache), requests(40))
    assert len(failed(verdicts)) == 3 * (DEAD - 1) + 1
    assert len(server.requests) == 40


def test_dead_for_all_rounds_but_not_for_the_cache(cache: ReplyCache) -> None:
    with serving(Server(rates, lives=5)) as server:
        judge = ServerJudge(options(server, retries=0), cache)
        ask(judge)
        assert failed(ask(judge)) == list(range(5, COUNT))
        assert failed(ask(judge.in_round(1))) == list(range(COUNT))
    assert len(server.requests) == 5 + DEAD


@pytest.mark.parametrize(("status", "advice"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "/v1")])
def test_denied(cache: ReplyCache, status: int, advice: str) -> None:
    """At once, although the others would have to wait for their turns."""
    with serving(Server(rates, faults=[None] + [status] * 100)) as server:
        judge = ServerJudge(options(server, concurrency=4, requests_per_minute=60.0), cache)
        started = time.monotonic()
        with pytest.raises(UserError, match=rf"the judge's server 127.*fault {status}.*{advice}"):
            list(judge.ask(requests(500), parse))
        assert time.monotonic() - started < 3
    assert len(server.requests) == 2
    assert len(cache) == 1


def test_denied_while_another_waits(cache: ReplyCache) -> None:
    """The first request is between two of its retries, which take 15 seconds."""
    with serving(Server(rates)) as server:

        def reply(body: dict[str, Any]) -> tuple[int, bytes]:
            if body["messages"][1]["content"].endswith(" 0"):
                return 200, b"{not json"
            time.sleep(0.2)
            return 401, b"{}"

        server.reply = reply  # type: ignore[method-assign]
        started = time.monotonic()
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            list(ServerJudge(options(server, concurrency=2, retries=5), cache).ask(requests(), parse))
        assert time.monotonic() - started < 5


def test_no_money_left(cache: ReplyCache) -> None:
    """Comes as 429, and is not forgiven by waiting."""
    quota = json.dumps({"error": {"message": "pay first", "code": "insufficient_quota"}}).encode()
    with serving(Server(rates)) as server:
        server.reply = lambda body: (429, quota)  # type: ignore[method-assign]
        with pytest.raises(UserError, match="pay first"):
            list(ServerJudge(options(server), cache).ask(requests(), parse))


@pytest.mark.parametrize("fault", [400, 500, "drop", "empty", "silent"])
def test_not_one_of_the_first_is_answered(cache: ReplyCache, fault: Any) -> None:
    with serving(Server(rates, faults=[fault] * 1000)) as server:
        judge = ServerJudge(options(server, retries=0, parse_retries=0), cache)
        with pytest.raises(UserError, match="the judge answers none of the first 8 requests: "):
            list(judge.ask(requests(500), parse))
        assert len(server.requests) <= 8 + 4
        judge = ServerJudge(options(server, retries=0, parse_retries=0, model="wiser"), cache)
        assert failed(ask(judge, requests(3))) == [0, 1, 2]  # too few to tell


def test_nobody_there(cache: ReplyCache) -> None:
    judge = ServerJudge(options("http://127.0.0.1:9/v1", retries=0), cache)
    with pytest.raises(UserError, match="none of the first 8 requests: Connection error"):
        list(judge.ask(requests(), parse))


# ------------------------------------------------------------------------------------------------- replies


def test_unreadable_replies_have_a_budget_of_their_own(cache: ReplyCache) -> None:
    """The last attempt is hotter, and an exhausted budget is exhausted for good."""
    faults = ["mumble", "mumble", None, "mumble", "mumble", "mumble"]
    with serving(Server(rates, faults=faults)) as server:
        verdicts = ask(ServerJudge(options(server), cache))
        assert [body["temperature"] for body in server.requests[:6]] == [0.0, 0.0, HOTTER] * 2
        assert failed(verdicts) == [1]
        assert [reply.text for reply in verdicts[0].replies] == ["hm.", "hm.", "Rating: 0"]
        assert verdicts[1].error == "none of 3 replies could be read; the last begins 'hm.'"
        assert len(verdicts[1].replies) == 3
        sent = len(server.requests)
        cache.close()
        second = again(server, cache.path)
        assert len(server.requests) == sent
    assert {tag: verdict.value for tag, verdict in second.items()} == {t: v.value for t, v in verdicts.items()}
    assert second[1].error == verdicts[1].error
    assert all(reply.cached for verdict in second.values() for reply in verdict.replies)


def test_a_judge_that_is_never_understood(cache: ReplyCache) -> None:
    """It answers, so this is no matter of the server, in the second run either."""
    with serving(Server(lambda prompt: "hm.")) as server:
        assert len(failed(ask(ServerJudge(options(server), cache)))) == COUNT
        cache.close()
        assert len(failed(again(server, cache.path))) == COUNT
    assert len(server.requests) == 3 * COUNT


def test_a_reply_that_was_cut_off(cache: ReplyCache) -> None:
    with serving(Server(lambda prompt: "It seems to me", finish="length")) as server:
        verdicts = ask(ServerJudge(options(server, parse_retries=0), cache))
    assert {verdict.error for verdict in verdicts.values()} == {
        "none of 1 replies could be read; the last was cut off at 16 tokens"
    }


def test_a_judge_that_writes_nothing(cache: ReplyCache) -> None:
    """No parser sees that: some make a score of an empty text."""
    with serving(Server(rates, faults=[None, "silent", "silent"])) as server:
        judge = ServerJudge(options(server, parse_retries=1), cache)
        verdicts = dict(judge.ask(requests(3), lambda text: parse(text) or 0))
    assert [verdicts[n].value for n in range(3)] == [0, None, 2]
    assert verdicts[1].error.endswith("the last says nothing (finish_reason 'stop')")


def test_values_that_are_false_are_values(cache: ReplyCache) -> None:
    with serving(Server(rates)) as server:
        verdicts = dict(ServerJudge(options(server), cache).ask(requests(2), lambda text: []))
    assert [verdict.value for verdict in verdicts.values()] == [[], []]
    assert len(server.requests) == 2


def test_another_model(cache: ReplyCache) -> None:
    """Is counted; or, where the name is required, an error of that request, which a second run asks again."""
    with serving(Server(rates, faults=[None, "other", "other", "other"])) as server:
        judge = ServerJudge(options(server), cache)
        assert not failed(ask(judge))
        assert judge.models == Counter(wise=COUNT - 3, other=3)
        cache.close()
        server.faults = ["other", None, None]
        verdicts = again(server, cache.path, require_model=True)
        assert failed(verdicts) == [1]
        assert verdicts[1].error == "'wise' is required, and 'other' replies"
        assert len(server.requests) == COUNT + 3
        assert not failed(again(server, cache.path, require_model=True))
        assert len(server.requests) == COUNT + 4

        server.faults = ["other"] * 1000
        with (
            ReplyCache(cache.path.with_name("new.jsonl")) as new,
            pytest.raises(UserError, match="none of the first 8 requests: 'wise' is required, and 'other' replies"),
        ):
            list(ServerJudge(options(server, require_model=True), new).ask(requests(500), parse))


def test_rounds_are_judged_anew(cache: ReplyCache) -> None:
    with serving(Server(rates)) as server:
        judge = ServerJudge(options(server), cache)
        for number in (0, 1, 2, 1):
            ask(judge.in_round(number))
    assert len(server.requests) == 3 * COUNT
    assert judge.models["wise"] == 4 * COUNT


def test_the_same_asked_twice(cache: ReplyCache) -> None:
    """As two equal answers in both orders are: paid once, and the second run finds what the first one found."""
    numbers = iter(range(7))
    with serving(Server(lambda _: f"Rating: {next(numbers)}", pause=0.1)) as server:
        asked = [(n, requests(1)[0][1]) for n in range(6)]
        verdicts = ask(ServerJudge(options(server, concurrency=4), cache), asked)
    assert len(server.requests) == 1
    assert [verdict.value for verdict in verdicts.values()] == [0] * 6


# ------------------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize(
    "change",
    [{"stage": "b"}, {"system": "b"}, {"user": "rate 5"}, {"temperature": 0.5}, {"max_tokens": 17}],
)
def test_every_part_of_a_request_counts(cache: ReplyCache, change: dict[str, Any]) -> None:
    with serving(Server(rates)) as server:
        judge = ServerJudge(options(server), cache)
        ask(judge, requests(1))
        ask(judge, requests(1, **change))
        ask(judge, requests(1))
        assert len(server.requests) == 2


def test_a_torn_line(cache: ReplyCache) -> None:
    """Is asked again; one that only misses its end is not."""
    with serving(Server(rates)) as server:
        ask(ServerJudge(options(server), cache))
        cache.close()
        whole = cache.path.read_bytes()
        for cut, repeated in ((1, 0), (20, 1), (0, 0)):
            cache.path.write_bytes(whole[: len(whole) - cut])
            sent = len(server.requests)
            assert not failed(again(server, cache.path))
            assert len(server.requests) == sent + repeated
            lines = [json.loads(line) for line in cache.path.read_bytes().splitlines()]
            assert len(lines) == COUNT
    assert all(line["key"] == key_of(line["request"]) for line in lines)


def test_lines_that_are_not_ours(cache: ReplyCache) -> None:
    with serving(Server(rates)) as server:
        ask(ServerJudge(options(server), cache))
        cache.close()
        lines = cache.path.read_text().splitlines()
        broken = [lines[0][:30], "[]", "null", '{"key": 1}', json.dumps(json.loads(lines[1]) | {"text": 5}), *lines[2:]]
        cache.path.write_text("\n".join(broken) + "\n")
        assert not failed(again(server, cache.path))
    assert len(server.requests) == COUNT + 2


def test_two_runs_on_one_cache(cache: ReplyCache) -> None:
    with pytest.raises(UserError, match=r"replies\.jsonl: another run is writing it"):
        ReplyCache(cache.path)
    cache.close()
    ReplyCache(cache.path).close()


def test_a_cache_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot hold the judge's replies \(Is a directory"):
        ReplyCache(tmp_path)


def test_replies_under_way_are_kept(cache: ReplyCache) -> None:
    """Whoever asked has gone; what was paid is there."""
    with serving(Server(rates, pause=0.2)) as server:
        verdicts = ServerJudge(options(server, concurrency=4), cache).ask(requests(500), parse)
        next(verdicts)
        verdicts.close()  # type: ignore[attr-defined]
        assert len(cache) == len(server.requests) < 12


def main(url: str, path: str) -> None:
    """What the process does that is stopped."""
    judge = ServerJudge(options(url, concurrency=8, timeout=100.0), ReplyCache(Path(path)))
    raise SystemExit(guard(lambda: list(judge.ask(requests(), parse))))


def test_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """What had come is not asked again."""
    path = tmp_path / "replies.jsonl"

    def stuck(prompt: str) -> str:
        if int(prompt.split()[-1]) >= 4:
            time.sleep(60)
        return rates(prompt)

    def replied() -> bool:
        return path.exists() and len(path.read_text().splitlines()) == 4 and len(server.requests) > 4

    with serving(Server(stuck)) as server:
        code = f"from tests.eval.test_judge import main; main({server.url!r}, {str(path)!r})"
        started = time.monotonic()
        world.kill_when([sys.executable, "-c", code], replied, how=2)
        assert time.monotonic() - started < 40
        server.answer = rates
        sent = len(server.requests)
        assert not failed(again(server, path))
    assert len(server.requests) == sent + COUNT - 4


# ------------------------------------------------------------------------------------------------- estimate


def estimate(judge: Any, asked: list[Request]) -> Estimate:
    return sum((cost_of(judge.trial(request, str)) for request in asked), Estimate())


def test_estimate(cache: ReplyCache) -> None:
    with serving(Server(rates)) as server:
        judge = ServerJudge(options(server), cache)
        ask(judge, requests(4))
        cache.close()
        judge = ServerJudge(options(server), ReplyCache(cache.path, read_only=True))
        found = estimate(judge, [request for _, request in requests(6, user="rate 4 twenty letters")])
        found += estimate(judge, [request for _, request in requests(4)])
        assert len(server.requests) == 4
    assert found == Estimate(known=4, calls=6, input_tokens=6 * 8, output_tokens=6 * 16, again=2)
    assert str(found) == (
        "6 calls (4 more are in the cache), about 48 input tokens (counted as 4 characters each), at most 96 output "
        "tokens; a reply that cannot be read is asked for up to 2 times more"
    )


def test_an_estimate_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "replies.jsonl"
    judge = ServerJudge(options("http://host/v1", parse_retries=0), ReplyCache(path, read_only=True))
    found = estimate(judge, [request for _, request in requests(2)])
    assert (found.calls, found.known, str(found)[-13:]) == (2, 0, "output tokens")
    assert not path.parent.exists()


# ------------------------------------------------------------------------------------------------- a model here


def test_a_local_judge(cache: ReplyCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights: what it writes is nonsense, and out of the cache the second time."""
    llama = str(TinyLlama().write(tmp_path / "llama"))
    asked = [*requests(3, temperature=1e-5), (3, requests(1, temperature=1.0, max_tokens=9)[0][1])]
    asked.append((4, requests(1, user="long " * 1000)[0][1]))

    def readable(text: str) -> str | None:
        return text if len(text) % 2 else None

    judge: Judge = LocalJudge(LocalOptions(llama, dtype="float32", slots=4), cache)
    verdicts = dict(judge.ask(asked, readable))
    assert sorted(verdicts) == [0, 1, 2, 3, 4]
    for tag in range(4):
        replies = verdicts[tag].replies
        assert all(reply.model == llama and reply.output_tokens for reply in replies)
        assert verdicts[tag].value == readable(replies[-1].text)
        assert len(replies) == 1 or readable(replies[0].text) is None
    assert {len(verdicts[tag].replies) for tag in range(4)} == {1, 2}
    assert "positions" in verdicts[4].error
    assert judge.settings["kind"] == "local"
    assert judge.settings["system"] == "in front of the user's text"
    sent = [json.loads(line)["request"] for line in cache.path.read_text().splitlines()]
    assert {request["weights"] for request in sent} == {judge.settings["weights"]}

    other = dict(judge.in_round(1).ask(asked[3:4], readable))
    assert other[3].replies[0].text != verdicts[3].replies[0].text

    cache.close()
    monkeypatch.setattr(LocalJudge, "_engine", None)  # it must not be needed
    with ReplyCache(cache.path) as second:
        repeated = dict(LocalJudge(LocalOptions(llama, dtype="float32", slots=2), second).ask(asked[:4], readable))
    assert {tag: repeated[tag].value for tag in repeated} == {tag: verdicts[tag].value for tag in range(4)}
    assert all(reply.cached for verdict in repeated.values() for reply in verdict.replies)


def test_local_options_that_mean_nothing(cache: ReplyCache) -> None:
    for changes, message in (({"model": ""}, "not set"), ({"slots": -1}, "slots is -1")):
        with pytest.raises(UserError, match=f"the judge's .* {message}|the judge's {message}"):
            LocalOptions(**({"model": "somewhere"} | changes))
    with pytest.raises(UserError, match="the judge's model"):
        list(LocalJudge(LocalOptions("/no/such/model"), cache).ask(requests(1), parse))
