"""Token for token what transformers' `generate` says, in float32, on a left-padded batch of unequal prompts."""

import pytest

from rlaifv_jax.sampling.settings import Sampling
from tests.sampling.talker import END, QUESTIONS, Talker, tokens

NEW = 24


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"min_new_tokens": 9}, {"min_new_tokens": 9}),
        ({"repetition_penalty": 1.3, "penalize_prompt": True}, {"repetition_penalty": 1.3}),
        ({"num_beams": 3}, {"num_beams": 3}),
        ({"num_beams": 3, "early_stopping": True}, {"num_beams": 3, "early_stopping": True}),
        ({"num_beams": 3, "early_stopping": "never"}, {"num_beams": 3, "early_stopping": "never"}),
        ({"num_beams": 3, "length_penalty": 2.0}, {"num_beams": 3, "length_penalty": 2.0}),
        ({"num_beams": 4, "length_penalty": -0.5}, {"num_beams": 4, "length_penalty": -0.5}),
        (
            {"num_beams": 2, "repetition_penalty": 1.2, "penalize_prompt": True, "min_new_tokens": 5},
            {"num_beams": 2, "repetition_penalty": 1.2, "min_new_tokens": 5},
        ),
    ],
    ids=lambda options: "-".join(options) or "greedy",
)
def test_tokens(talker: Talker, ours: dict, theirs: dict) -> None:
    expected = talker.transformers(max_new_tokens=NEW, **theirs)
    assert tokens(talker.ask(Sampling(max_new_tokens=NEW, **ours))) == expected


def test_the_model_puts_the_engine_to_the_test(talker: Talker) -> None:
    """Answers differ, and end at different steps or not at all."""
    found = tokens(talker.ask(Sampling(max_new_tokens=NEW)))
    assert len(set(map(tuple, found))) == len(QUESTIONS)
    assert len({len(answer) for answer in found}) > 2
    assert any(answer[-1] != END for answer in found)


@pytest.mark.parametrize("beams", [1, 3])
def test_several_ends(talker: Talker, beams: int) -> None:
    """A token that occurs ends an answer too; with beams, more continuations are kept then."""
    plain = tokens(talker.ask(Sampling(max_new_tokens=NEW, num_beams=beams)))
    ends = (END, plain[0][3])
    expected = talker.transformers(max_new_tokens=NEW, num_beams=beams, eos_token_id=list(ends))
    assert tokens(talker.ask(Sampling(max_new_tokens=NEW, num_beams=beams), ends=ends)) == expected
    assert expected != plain


def test_all_beams(talker: Talker) -> None:
    expected = talker.transformers(max_new_tokens=NEW, num_beams=4, num_return_sequences=3)
    assert tokens(talker.ask(Sampling(max_new_tokens=NEW, num_beams=4), samples=3)) == expected
