"""What must not matter to an answer, and what must."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling import slots
from rlaifv_jax.sampling.capacity import slot_length
from rlaifv_jax.sampling.decode import jitted
from rlaifv_jax.sampling.settings import Sampling
from tests.sampling.talker import END, QUESTIONS, Talker, in_order, tokens

DRAWN = Sampling(temperature=1.0, top_k=40, top_p=0.95, max_new_tokens=20)
FIFTY = tuple(f"{QUESTIONS[n % 5]} {'again ' * (n % 9)}" for n in range(50))


@pytest.fixture(scope="module")
def expected(talker: Talker) -> list[list[int]]:
    return tokens(talker.ask(DRAWN, FIFTY, prompts=8))


def test_alone(talker: Talker, expected: list[list[int]]) -> None:
    engine = talker.engine(DRAWN, prompts=1)
    assert [tokens(list(engine.generate([prompt])))[0] for prompt in talker.prompts(FIFTY)] == expected


def test_shuffled_in_another_number_of_slots(talker: Talker, expected: list[list[int]]) -> None:
    prompts = talker.prompts(FIFTY)
    np.random.default_rng(0).shuffle(prompts)  # type: ignore[arg-type]
    assert tokens(in_order(talker.engine(DRAWN).generate(prompts))) == expected


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 1, 1), (1, 1, 3)])
def test_devices(talker: Talker, expected: list[list[int]], sizes: tuple[int, int, int]) -> None:
    """Prompts over devices, or heads (three of them) over devices."""
    mesh = make_mesh(*sizes, jax.devices()[: int(np.prod(sizes))])
    assert tokens(talker.ask(DRAWN, FIFTY, mesh=mesh)) == expected


def test_few_programs(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each length of slots, whatever is asked, compiled once."""
    made = []
    monkeypatch.setattr(slots, "jitted", lambda *key: made.append(jitted(*key)) or made[-1])
    engine = talker.engine(replace(DRAWN, max_new_tokens=7), prompts=3)
    for first in range(0, 50, 10):
        list(engine.generate(talker.prompts(FIFTY)[first : first + 10]))
    functions = set(map(id, made))
    assert len(functions) == len({slot_length(prompt.positions) for prompt in talker.prompts(FIFTY)})
    assert all(each._cache_size() == 1 for found in made for each in found)


def test_drawn_tokens_have_the_model_s_distribution(talker: Talker) -> None:
    """χ² of the first tokens of 600 samples of a prompt."""
    prompt = talker.prompts()[1]
    wanted = Sampling(temperature=1.5, top_k=5, max_new_tokens=1)
    (found,) = talker.engine(wanted, samples=600, branches=100).generate([prompt])
    logits = talker.first_logits(prompt)
    best = np.argsort(-logits)[:5]
    chances = np.exp(logits[best] / 1.5) / np.exp(logits[best] / 1.5).sum()
    drawn = np.array([answer.tokens[0] for answer in found.answers])
    counts = np.array([(drawn == token).sum() for token in best])
    assert counts.sum() == 600
    assert ((counts - 600 * chances) ** 2 / (600 * chances)).sum() < 18.47  # once in a thousand times


def test_answers_differ(expected: list[list[int]]) -> None:
    assert len(set(map(tuple, expected))) > 40
    assert len({len(answer) for answer in expected}) > 5


def test_bfloat16_on_one_mesh(talker: Talker) -> None:
    """Bit for bit, whoever the neighbours are."""
    prompts = talker.prompts(FIFTY[:20])
    engine = talker.engine(DRAWN, dtype=jnp.bfloat16, prompts=4)
    together = tokens(in_order(engine.generate(prompts)))
    assert tokens(in_order(engine.generate(prompts[::-1]))) == together
    assert [tokens(list(engine.generate([prompt])))[0] for prompt in prompts[:6]] == together[:6]


@pytest.mark.parametrize("branches", [1, 2, 5])
def test_samples_take_turns_on_branches(talker: Talker, branches: int) -> None:
    every = tokens(talker.ask(DRAWN, samples=5, branches=5))
    assert tokens(talker.ask(DRAWN, samples=5, branches=branches, prompts=2)) == every
    assert len(set(map(tuple, every))) > 20
    three = tokens(talker.ask(DRAWN, samples=3))
    assert three == [answer for n, answer in enumerate(every) if n % 5 < 3]


def test_seed_and_name_decide(talker: Talker) -> None:
    one, other = (tokens(talker.ask(DRAWN, seed=seed)) for seed in (0, 1))
    assert all(a != b for a, b in zip(one, other, strict=True))
    assert tokens(talker.ask(DRAWN, seed=1)) == other
    renamed = [replace(prompt, name=f"{prompt.name} again") for prompt in talker.prompts()]
    again = tokens(in_order(talker.engine(DRAWN).generate(renamed)))
    assert all(a != b for a, b in zip(one, again, strict=True))


@pytest.mark.parametrize("beams", [1, 3])
def test_long_answers(talker: Talker, beams: int) -> None:
    """Suffixes of several pieces, none of which ends before."""
    wanted = Sampling(max_new_tokens=300, min_new_tokens=290, num_beams=beams)
    expected = talker.transformers(QUESTIONS[:2], max_new_tokens=300, min_new_tokens=290, num_beams=beams)
    assert tokens(talker.ask(wanted, QUESTIONS[:2])) == expected


def test_a_long_answer_does_not_hold_up_short_ones(talker: Talker) -> None:
    """Far fewer passes than if every batch waited for its longest answer."""
    engine = talker.engine(Sampling(max_new_tokens=64), prompts=4)
    found = in_order(engine.generate(talker.prompts(FIFTY)))
    lengths = [len(answer) for answer in tokens(found)]
    waiting = sum(4 * max(lengths[first : first + 4]) for first in range(0, len(lengths), 4))
    assert engine.account.tokens == sum(lengths)
    assert engine.account.passes < 0.9 * waiting
    assert engine.account.prompts == 50


def test_int8_cache_says_nearly_the_same(talker: Talker) -> None:
    exact, coarse = (tokens(talker.ask(Sampling(max_new_tokens=12), cache=kind)) for kind in ("", "int8"))
    same = [a == b for one, other in zip(exact, coarse, strict=True) for a, b in zip(one, other, strict=False)]
    assert np.mean(same) > 0.8


def test_stop_strings(talker: Talker) -> None:
    free = talker.ask(Sampling(max_new_tokens=40))
    mark = free[0].answers[0].text[12:15]
    assert mark.strip()
    engine = talker.engine(Sampling(max_new_tokens=40, stop=(mark,)))
    for before, after in zip(free, in_order(engine.generate(talker.prompts())), strict=True):
        assert after.answers[0].text == before.answers[0].text.split(mark)[0].strip()
        assert after.answers[0].ended >= (mark in before.answers[0].text)
    plain = talker.engine(Sampling(max_new_tokens=40))
    list(plain.generate(talker.prompts()))
    assert engine.account.tokens < plain.account.tokens  # it stops, and does not only cut


def closed_by(*tokens_: int, lead: str = "", stop: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(stop=stop, lead=lead, closing=lambda tokenizer: tokens_)


def test_one_closing_token_is_an_end_token(talker: Talker) -> None:
    plain = tokens(talker.ask(Sampling(max_new_tokens=24, num_beams=3)))
    wanted = Sampling(max_new_tokens=24, num_beams=3, length_penalty=0.5)
    for token in plain[0][2:5]:
        expected = tokens(talker.ask(wanted, ends=(END, token)))
        assert tokens(talker.ask(wanted, template=closed_by(token))) == expected
    late = replace(wanted, min_new_tokens=12)
    assert all(len(answer) >= 12 for answer in tokens(talker.ask(late, template=closed_by(token))))


def test_beams_end_where_closing_tokens_follow_each_other(talker: Talker) -> None:
    wanted = Sampling(max_new_tokens=24, num_beams=3, length_penalty=0.0)  # the shortest is the likeliest
    plain = tokens(talker.ask(wanted))
    pair = tuple(plain[0][3:5])
    found = tokens(talker.ask(wanted, template=closed_by(*pair)))
    assert found[0] != plain[0]
    assert any(tuple(answer[-2:]) == pair for answer in found)
    for answer in found:
        assert pair not in set(pairwise(answer[:-1]))
        assert len(answer) == 24 or answer[-1] == END or tuple(answer[-2:]) == pair
    unknown = [END + 1, END + 1, END + 1]  # a byte, which this model never says
    assert tokens(talker.ask(wanted, template=closed_by(*unknown))) == plain


@pytest.mark.parametrize("beams", [1, 3])
def test_a_template_says_where_answers_begin_and_end(talker: Talker, beams: int) -> None:
    wanted = Sampling(max_new_tokens=40, num_beams=beams)
    free = talker.ask(wanted)
    words = free[0].answers[0].text.split()
    lead, mark = words[1], words[3]
    assert lead not in "".join(words[:1])
    assert mark not in "".join(words[:3])
    found = talker.ask(wanted, template=closed_by(lead=lead, stop=(mark,)))
    for before, after in zip(free, found, strict=True):
        text = before.answers[0].text.split(mark)[0]
        assert after.answers[0].text == (text.split(lead, 1)[1] if lead in text else text).strip()
    assert found[0].answers[0].text
    assert found[0].answers[0].ended


@pytest.mark.parametrize("beams", [1, 3])
def test_watching(talker: Talker, beams: int) -> None:
    """What is shown while an answer grows is never taken back."""
    seen: list[list[int]] = []
    engine = talker.engine(Sampling(max_new_tokens=40, num_beams=beams))
    prompt = talker.prompts()[1]
    (found,) = engine.generate([prompt], watch=lambda tag, so_far: seen.append(so_far))
    (answer,) = tokens([found])
    assert seen
    for so_far in seen:
        assert answer[: len(so_far)] == so_far
    assert len(answer) == 40 or answer[-1] == END


def test_text_only(talker: Talker) -> None:
    prompts = [talker.prompter.prompt(question, None, question, question) for question in QUESTIONS]
    found = list(talker.engine(Sampling(max_new_tokens=8)).generate(prompts))
    mixed = list(talker.engine(Sampling(max_new_tokens=8), prompts=2).generate([*talker.prompts(), *prompts]))
    assert {a.tag: a for a in mixed} == {a.tag: a for a in [*found, *talker.ask(Sampling(max_new_tokens=8))]}


def test_nothing_to_do(talker: Talker) -> None:
    assert talker.ask(Sampling(), ()) == []


def test_refused(talker: Talker) -> None:
    with pytest.raises(UserError, match="5 answers from 3 beams"):
        talker.engine(Sampling(num_beams=3), samples=5)
    with pytest.raises(UserError, match="would all be the same"):
        talker.engine(Sampling(), samples=2)
    for values, message in (
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.5}, "temperature 0 draws nothing"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens is 9"),
        ({"stop": ("",)}, "strings that are not empty"),
        ({"stop": "###"}, "a list of strings is needed"),
    ):
        with pytest.raises(UserError, match=message):
            Sampling(**values)  # type: ignore[arg-type]
