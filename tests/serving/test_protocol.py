"""What a request may say: every field, and no other."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.serving.protocol import NEUTRAL, ApiError, ChatRequest, parse

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: Any) -> ApiError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as found:
        parse(data)
    return found.value


def test_plain_and_full() -> None:
    request = parse(json.dumps(PLAIN | {"stop": "x", "seed": -1, "top_k": -1, "temperature": 0}).encode())
    assert (request.stops, request.seed, request.temperature, request.n) == (("x",), -1, 0.0, 1)
    assert parse(json.dumps(PLAIN | {"stop": ["a", "b"], "logprobs": None}).encode()).stops == ("a", "b")


def test_neutral_values_and_nothing_near_them() -> None:
    for name, values in NEUTRAL.items():
        for value in (None, *values):
            assert parse(json.dumps(PLAIN | {name: value}).encode()) == parse(json.dumps(PLAIN).encode())
        assert refusal(PLAIN | {name: "other"}).param == name
    assert refusal(PLAIN | {"frequency_penalty": False}).param == "frequency_penalty"
    assert refusal(PLAIN | {"ignore_eos": 0}).param == "ignore_eos"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 101}, "temperature"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"n": 0}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"n": 5, "num_beams": 3}, "n"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stop": ""}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "num_beams": 2}, "logprobs"),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]}
                ]
            },
            "messages[0].content[0].image_url.detail",
        ),
        ({"model": 3}, "model"),
        ({"a\nb\x1b[31m": 1}, "a?b?[31m"),
        ({"<script>": 1}, "?script?"),
    ],
)
def test_the_field_at_fault_is_named(change: dict[str, Any], param: str) -> None:
    error = refusal(PLAIN | change)
    assert (error.status, error.param) == (400, param)
    assert error.message.startswith(param)
    assert error.body["error"] == {
        "message": error.message,
        "type": "invalid_request_error",
        "param": param,
        "code": None,
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "must be a JSON object"),
        (b"{" * 100_000, "no JSON"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"model": "m", "temperature": NaN}', "NaN is no number"),
        (b'{"model": "m", "temperature": -Infinity}', "-Infinity is no number"),
        (b'{"n": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', "half of a surrogate pair"),
        (b'{"model": "\xed\xa0\x80"}', "no JSON"),
        (b'{"model": "m", "temperature": 1e999, "messages": [{"role": "user", "content": "x"}]}', "temperature"),
    ],
)
def test_what_is_no_request(body: bytes, message: str) -> None:
    error = refusal(body)
    assert error.status == 400
    assert message in error.message
    json.dumps(error.body).encode()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*ChatRequest.model_fields, *NEUTRAL, "role", "content", "type", "text", "image_url", "url"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=5), ANY, max_size=4), st.booleans())
def test_whatever_comes_is_taken_or_refused_in_a_line(change: dict[str, Any], inside: bool) -> None:
    body = PLAIN | ({"messages": [change, *PLAIN["messages"]]} if inside else change)
    with suppress(ApiError):
        parse(json.dumps(body).encode())
        return
    error = refusal(body)
    assert error.status == 400
    assert json.dumps(error.body, ensure_ascii=False).encode()
    assert "\n" not in error.message
