"""A labeler behind a server: the local labeler's verdicts, and whatever a server may do instead."""

import io
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from rlaifv_jax.chat_server import Said
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.by_server import Likely, Verdict, by_chances, by_text
from rlaifv_jax.feedback.rules import WORDS, accepts
from rlaifv_jax.server_requests import Failed
from rlaifv_jax.shapes.heldout import MODELS
from rlaifv_jax.vision_message import data_url, vision_message
from tests.fake_server import Server, Tokens, read_message, serving
from tests.feedback.chain import make, make_config, read_stage, write_answers
from tests.feedback.labelers import ServedLabeler, write_captions

YES: Tokens = [("Yes", math.log(0.7)), (" yes", math.log(0.2)), ("No", math.log(0.05))]


def says_yes(question: str, picture: bytes | None) -> Tokens:
    assert picture is not None
    return YES


def server_config(folder: Path, url: str, **changes: Any) -> ConfigDict:
    given = {"score__server": url, "score__dtype": "", "score__retries": 2, "score__timeout": 1.0}
    return make_config(folder, "labeler", **(given | changes))


def made(folder: Path) -> Path:
    """A folder with answers, their claims and questions."""
    write_answers(folder)
    make(make_config(folder, "labeler"), "divide", "question")
    return folder


def questions_of(server: Server) -> Counter[tuple[str, bytes | None]]:
    return Counter(read_message(body["messages"][0]["content"]) for body in server.requests)


# ------------------------------------------------------------------------------------------------- the same verdicts


def test_the_local_labeler_s_verdicts(tmp_path: Path) -> None:
    truth = write_captions(tmp_path, 5)
    prompt = str(MODELS.parent / "check.txt")
    local = make_config(tmp_path, MODELS / "labeler", score__prompt=prompt)
    here = read_stage(make(local, "divide", "question", "score") / "score")
    with serving(Server(weigh=ServedLabeler().weigh)) as server:
        config = server_config(tmp_path, server.url, score__prompt=prompt, score__timeout=60.0)
        config.score.input, config.output_dir = str(tmp_path / "out" / "question"), str(tmp_path / "there")
        there = read_stage(make(config, "score") / "score")
    assert len(here) == len(there) == len(truth)
    for one, other in zip(here, there, strict=True):
        assert list(other) == list(one)
        same = ("question_id", "ds_question_id", "raw_question", "answer", "metainfos")
        assert [other[name] for name in same] == [one[name] for name in same]
        for word in WORDS:
            assert other["scores"][word] == pytest.approx(one["scores"][word], abs=1e-4)
        assert other["margin"] == pytest.approx(one["margin"], abs=1e-4)
    assert [accepts(record["scores"]) for record in there] == [accepts(record["scores"]) for record in here]
    assert {accepts(record["scores"]) for record in there} == {True, False}
    asked = questions_of(server)
    assert set(asked.values()) == {1}  # what several answers claim is asked once
    assert len(asked) == len({(record["ds_question_id"], record["raw_question"]) for record in there})


def test_what_is_asked_and_what_becomes_of_it(tmp_path: Path) -> None:
    made(tmp_path)
    with serving(Server(weigh=says_yes, pause=0.02)) as server:
        records = read_stage(make(server_config(tmp_path, server.url), "score") / "score")
    question = "is there in the top left a large red circle ? Please answer yes or no."
    asked = ((sent, *read_message(sent["messages"][0]["content"])) for sent in server.requests)  # in any order
    shown = (tmp_path / "0.png").read_bytes()
    first = next(sent for sent, text, picture in asked if (text, picture) == (question, shown))
    assert {key: first[key] for key in ("model", "temperature", "max_tokens", "logprobs", "top_logprobs")} == {
        "model": "labeler",
        "temperature": 0.0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
    }
    assert records[0]["scores"] == pytest.approx({"yes": 0.2, "Yes": 0.7, "no": 0.0, "No": 0.05})
    assert records[0]["answer"] == "Yes"
    assert 1 < server.together <= 8


@pytest.mark.parametrize(
    ("first", "scores"),
    [
        ([("▁no", math.log(0.5)), ("No", math.log(0.25)), ("Yes", -9999.0)], (0, 0, 0.5, 0.25)),
        ([("The", math.log(0.9)), ("Yes", math.log(0.05))], (0, 0.05, 0, 0)),
        ([("YES", math.log(0.9)), ("Yes,", math.log(0.05))], None),
        ([("The", -0.1)], None),
        (None, None),
    ],
)
def test_the_masses_of_words(first: Tokens | None, scores: tuple[float, ...] | None) -> None:
    found = by_chances(Likely(Said("x"), tuple(first) if first else None))
    if scores is None:
        assert isinstance(found, Failed)
        assert found.taken
    else:
        assert isinstance(found, Verdict)
        assert tuple(found.scores.values()) == pytest.approx(scores)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Yes.", "Yes"),
        ("no, there is none", "no"),
        ("**NO**", "No"),
        ("Yesterday", None),
        ("I cannot say no", None),
        ("", None),
        (None, None),
    ],
)
def test_verdicts_by_text(text: str | None, word: str | None) -> None:
    found = by_text(Said(text))
    if word is None:
        assert isinstance(found, Failed)
    else:
        assert isinstance(found, Verdict)
        assert found.scores == dict.fromkeys(WORDS, 0.0) | {word: 1.0}


# ------------------------------------------------------------------------------------------------- what servers do


def test_without_logprobs_the_run_stops_or_goes_by_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    replies = iter(["Yes.", "I see a cat.", *["no"] * 100])
    with serving(Server(lambda _: next(replies))) as server:
        config = server_config(tmp_path, server.url, score__concurrency=1)
        with pytest.raises(UserError, match=r"tells no log-probabilities of labeler; .* score.verdict='text'"):
            make(config, "score")
        assert len(server.requests) == 1
        server.requests.clear()
        replies = iter(["Yes.", "I see a cat.", *["no"] * 100])
        config.score.verdict = "text"
        with pytest.raises(UserError, match="belongs to a run with another verdict"):
            make(config, "score")
        config.output_dir, config.score.input = str(tmp_path / "text"), str(tmp_path / "out" / "question")
        records = read_stage(make(config, "score") / "score")
    assert "logprobs" not in server.requests[0]
    assert server.requests[0]["max_tokens"] == 8
    assert records[0]["answer"] == "Yes."
    assert records[0]["margin"] == 1.0
    errors = Counter(record["error"] for record in records if "error" in record)
    assert set(errors) == {"neither: the reply does not begin with yes or no: 'I see a cat.'"}
    assert all(not any(record["scores"].values()) for record in records if "error" in record)
    assert f"{errors.total()} of 60 claims with an error" in capsys.readouterr().err


def test_logprobs_that_are_missing_once(tmp_path: Path) -> None:
    made(tmp_path)
    with serving(Server(weigh=says_yes, faults=[None, "unweighed"])) as server:
        records = read_stage(make(server_config(tmp_path, server.url, score__concurrency=1), "score") / "score")
    errors = {record["error"] for record in records if "error" in record}
    assert errors == {"no_logprobs: the server tells none with this reply"}


def test_faults_are_survived_and_bounded(tmp_path: Path) -> None:
    """Busy, ill, garbled, slow: asked again. Refused: an error of its claims. Gone: the run stops and goes on."""
    made(tmp_path)
    faults = [429, 500, "garbage", "overweight", "hang", None, 400, "silent"]
    server = Server(weigh=says_yes, faults=faults)
    with serving(server):
        config = server_config(tmp_path, server.url, score__concurrency=1, score__retries=4)
        whole = read_stage(make(config, "score") / "score")
    errors = {record["error"][:24] for record in whole if "error" in record}
    assert errors == {"the server refuses it: E"}  # nothing is needed of a reply but its probabilities
    distinct = len(questions_of(server))
    assert len(server.requests) == distinct + 5

    server = Server(weigh=says_yes, lives=10)
    with serving(server):
        config = server_config(tmp_path, server.url, score__concurrency=1, score__input=str(tmp_path / "out/question"))
        config.output_dir = str(tmp_path / "again")
        with pytest.raises(UserError, match=r"score\.server: .* gives no usable reply after 2 retries"):
            make(config, "score")
        before = questions_of(server)
        server.lives = None
        server.requests.clear()
        again = read_stage(make(config, "score") / "score")
    after = questions_of(server)
    assert len(after) == len(server.requests) == distinct - 10  # only what is missing
    assert len(before.keys() & after.keys()) == 1  # the one that it died of
    assert not any("error" in record for record in again)


def test_a_server_that_takes_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    with (
        serving(Server(weigh=says_yes, faults=[400] * 100)) as server,
        pytest.raises(UserError, match=r"score: not one of the first 8 prompts is taken: .*score.verdict='text'"),
    ):
        make(server_config(tmp_path, server.url), "score")


def test_a_model_of_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    with serving(Server(weigh=says_yes, faults=[None, "other"])) as server:
        config = server_config(tmp_path, server.url, score__concurrency=1)
        records = read_stage(make(config, "score") / "score")
        named = [record for record in records if "server_model" in record]
        assert {record["server_model"] for record in named} == {"other"}
        assert f"{len(named)} claims were judged by a server that calls itself 'other'" in capsys.readouterr().err
        server.faults.extend([None, "other"])
        config.output_dir, config.score.input = str(tmp_path / "strict"), str(tmp_path / "out/question")
        config.score.require_model = True
        records = read_stage(make(config, "score") / "score")
    errors = {record["error"] for record in records if "error" in record}
    assert errors == {"other_model: 'labeler' is required, and 'other' replies"}


def test_pictures_that_are_missing(tmp_path: Path) -> None:
    """They are not sent, and say nothing of the server, be they the first."""
    made(tmp_path)
    for number in range(5):
        (tmp_path / f"{number}.png").unlink()
    with serving(Server(weigh=says_yes)) as server:
        records = read_stage(make(server_config(tmp_path, server.url), "score") / "score")
    good = [record for record in records if "error" not in record]
    assert {record["ds_question_id"] for record in good} == {"5.png"}
    assert all(record["error"].startswith("image_missing") for record in records if record not in good)
    assert len(server.requests) == len({record["raw_question"] for record in good})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score__model": ""}, "score.model is not set"),
        ({"score__server": "ftp://x"}, "score.server is 'ftp://x'"),
        ({"score__template": "vicuna"}, "score.template is set, but score.server decides that"),
        ({"score__dtype": "float32"}, "score.dtype is set, but score.server decides that"),
        ({"score__verdict": "guess"}, "score.verdict is 'guess'; it can be 'logprobs' or 'text'"),
        ({"score__top_logprobs": 21}, "score.top_logprobs is 21; it must lie between 2 and 20"),
        ({"score__max_new_tokens": 0}, "score.max_new_tokens is 0"),
        ({"score__concurrency": 0}, "score.concurrency is 0"),
    ],
)
def test_settings_are_refused_before_anything_is_done(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_answers(tmp_path)
    with pytest.raises(UserError, match=message):
        make(server_config(tmp_path, "http://127.0.0.1:9/v1", **changes), "all")
    assert not (tmp_path / "out" / "divide").exists()


# ------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(("kind", "sent"), [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "png")])
def test_pictures_as_urls(kind: str, sent: str) -> None:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    picture.save(buffer, kind)
    message = vision_message("<image>\nWhat?", data_url(buffer.getvalue()))
    assert message["content"][0]["image_url"]["url"].startswith(f"data:image/{sent};base64,")
    text, data = read_message(message["content"])
    assert text == "What?"
    assert data is not None
    assert (data == buffer.getvalue()) == (kind != "BMP")
    with Image.open(io.BytesIO(buffer.getvalue())) as before, Image.open(io.BytesIO(data)) as after:
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


def test_messages_that_cannot_be() -> None:
    assert vision_message("What?", None) == {"role": "user", "content": "What?"}
    for text in ("<image>", "\ud800"):
        with pytest.raises(BadRow):
            vision_message(text, None)
    with pytest.raises(BadRow, match="image_undecodable"):
        data_url(b"no picture")
