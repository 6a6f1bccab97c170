"""What must not matter to an answer of the server, and what must."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import pytest

from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.serving.counters import Counters
from rlaifv_jax.serving.jobs import Job, Piece
from rlaifv_jax.serving.prefixes import Prefixes, size_of
from rlaifv_jax.serving.seating import Seating
from rlaifv_jax.serving.slots import Slots
from tests.sampling.talker import Talker, in_order, tokens

SETTINGS = (
    Sampling(max_new_tokens=12),
    Sampling(temperature=1.0, max_new_tokens=20),
    Sampling(temperature=1.5, top_k=5, max_new_tokens=9),
    Sampling(temperature=0.8, top_p=0.7, max_new_tokens=30),
    Sampling(repetition_penalty=1.5, penalize_prompt=True, max_new_tokens=17),
    Sampling(temperature=1.0, min_new_tokens=14, max_new_tokens=16),
)


@dataclass
class Place:
    """A server without HTTP, which keeps no prompts unless told to."""

    speaker: Speaker
    slots: Slots

    def worker(self, most: int = 0) -> Seating:
        self.slots.clear()
        return Seating(self.slots, Prefixes(most), Counters(), self.speaker.tokenizer, self.speaker.prompter.template)


@pytest.fixture(scope="module")
def place(talker: Talker) -> Place:
    speaker = Speaker(talker.folder, dtype="float32")
    speaker.mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    return Place(speaker, Slots(speaker, seats=4, longest_prompt=128, new_tokens=40, cache=""))


def count(worker: Seating, name: str) -> float | None:
    return worker.counters.registry.get_sample_value(f"rlaifv_{name}_total")


def job(prompt: Prompt, settings: Sampling, **more: Any) -> tuple[Job, "queue.Queue[Any]"]:
    found: queue.Queue[Any] = queue.Queue()
    given = {"samples": 1, "seed": 0, "tells": None, "streams": False, **more}
    return Job(prompt, settings, emit=found.put, **given), found


def work(worker: Seating, jobs: Sequence[Job]) -> None:
    """What the thread does, until nothing is left to do."""
    worker.waiting.extend(jobs)
    while worker.waiting or worker.running:
        worker._seat()
        worker._advance()


def ask(worker: Seating, asked: Sequence[tuple[Prompt, Sampling]], **more: Any) -> list[list[Piece]]:
    """The pieces of every job, all together."""
    pairs = [job(prompt, settings, **more) for prompt, settings in asked]
    work(worker, [one for one, _ in pairs])
    return [list(found.queue) for _, found in pairs]


def test_neighbours_order_and_settings_of_others_do_not_matter(talker: Talker, place: Place) -> None:
    """Bit for bit, log-probabilities included; and no request compiles anything."""
    asked = [(prompt, settings) for prompt in talker.prompts()[:3] for settings in SETTINGS]
    together = ask(place.worker(), asked, tells=3)
    sizes = {name: function._cache_size() for name, function in place.slots.functions.items()}
    assert sizes["advance"] == 1
    assert ask(place.worker(), asked[::-1], tells=3)[::-1] == together
    assert [ask(place.worker(), [one], tells=3)[0] for one in asked[::4]] == together[::4]
    assert {name: function._cache_size() for name, function in place.slots.functions.items()} == sizes
    assert len({piece.text for (piece,) in together}) > 12


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[1], SETTINGS[3], SETTINGS[4], SETTINGS[5]])
def test_the_engine_s_answers(talker: Talker, place: Place, settings: Sampling) -> None:
    prompts = [replace(prompt, name="answer 0") for prompt in talker.prompts()]
    found = ask(place.worker(), [(prompt, settings) for prompt in prompts], tells=0)
    expected = tokens(in_order(talker.engine(settings, ends=place.speaker.ends).generate(prompts)))
    assert [[token.id for token in piece.told] for (piece,) in found] == expected


def test_top_k_draws_from_so_many(talker: Talker, place: Place) -> None:
    settings = Sampling(temperature=5.0, top_k=3, max_new_tokens=40)
    found = ask(place.worker(), [(prompt, settings) for prompt in talker.prompts()], tells=3)
    ranks = [[one for one, _ in token.likely].index(token.id) for (piece,) in found for token in piece.told]
    assert set(ranks) == {0, 1, 2}


def test_log_probabilities_are_the_model_s_own(talker: Talker, place: Place) -> None:
    prompt = talker.prompts()[1]
    logits = talker.first_logits(prompt).astype(np.float64)
    logs = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    best = np.argsort(-logs)[:20]
    for settings in (SETTINGS[0], SETTINGS[2]):  # whatever is drawn from
        ((piece,),) = ask(place.worker(), [(prompt, settings)], tells=20)
        first = piece.told[0]
        assert [one for one, _ in first.likely] == best.tolist()
        np.testing.assert_allclose([value for _, value in first.likely], logs[best], atol=1e-4)
        assert first.logprob == pytest.approx(logs[first.id], abs=1e-4)


def test_several_answers_are_those_that_each_would_be(talker: Talker, place: Place) -> None:
    prompt = talker.prompts()[0]
    worker = place.worker()
    (several,) = ask(worker, [(prompt, SETTINGS[1])], samples=6)
    assert sorted(piece.index for piece in several) == list(range(6))
    assert len({piece.text for piece in several}) == 6
    assert count(worker, "prefix_cache_misses") == 1  # the prompt is computed once
    (fewer,) = ask(place.worker(), [(prompt, SETTINGS[1])], samples=2)
    assert sorted(fewer, key=lambda piece: piece.index) == sorted(several, key=lambda piece: piece.index)[:2]
    (other,) = ask(place.worker(), [(prompt, SETTINGS[1])], samples=2, seed=1)
    assert {piece.text for piece in other}.isdisjoint(piece.text for piece in several)


def test_prefixes_are_kept_by_content_and_within_their_bytes(talker: Talker, place: Place) -> None:
    prompts = talker.prompts()
    size = size_of(place.slots.compute(prompts[0]))
    worker = place.worker(most=int(2.5 * size))
    asked = [(prompts[number], SETTINGS[0]) for number in (0, 1, 0, 2, 0, 1)]
    found = [ask(worker, [one])[0][0] for one in asked]
    assert [piece.cached for piece in found] == [False, False, True, False, True, False]
    assert (found[2].text, found[4].text, found[5].text) == (found[0].text, found[0].text, found[1].text)
    assert worker.prefixes.bytes <= 2.5 * size
    assert len(worker.prefixes) == 2
    same_text = replace(prompts[0], image=prompts[3].image)  # another picture
    assert not ask(worker, [(same_text, SETTINGS[0])])[0][0].cached
    nothing = place.worker()
    assert [ask(nothing, [asked[0]])[0][0].text for _ in range(2)] == [found[0].text] * 2
    assert count(nothing, "prefix_cache_hits") == nothing.prefixes.bytes == 0


def test_stop_strings_end_an_answer_where_they_stand(talker: Talker, place: Place) -> None:
    """And not where the worker happened to look: whoever the neighbours are, as many tokens are counted."""
    prompts = talker.prompts()
    (free,) = ask(place.worker(), [(prompts[0], SETTINGS[0])])[0]
    mark = free.text[12:15]
    stopping = replace(SETTINGS[0], stop=(mark,))
    ((alone,),) = ask(place.worker(), [(prompts[0], stopping)], tells=0)
    assert alone.text == free.text.split(mark)[0].strip()
    assert alone.reason == "stop"
    assert alone.count == len(alone.told) < free.count
    busy = place.worker()
    others = [(prompt, settings) for prompt in prompts for settings in SETTINGS]
    assert ask(busy, [*others, (prompts[0], stopping), *others], tells=0)[len(others)] == [alone]
    assert not busy.running


def test_streams_are_the_whole_answers(talker: Talker, place: Place) -> None:
    asked = [(talker.prompts()[0], settings) for settings in SETTINGS]
    whole = [piece for (piece,) in ask(place.worker(), asked, tells=2)]
    for pieces, one in zip(ask(place.worker(), asked, tells=2, streams=True), whole, strict=True):
        assert "".join(piece.text for piece in pieces) == one.text
        assert sum((piece.told for piece in pieces), ()) == one.told
        assert [piece.reason for piece in pieces] == [None] * (len(pieces) - 1) + [one.reason]
    assert len(pieces) > 1


def test_who_leaves_frees_a_seat(talker: Talker, place: Place) -> None:
    worker = place.worker()
    long = Sampling(min_new_tokens=40, max_new_tokens=40)
    pairs = [job(prompt, long) for prompt in talker.prompts()]  # five for four seats
    worker.waiting.extend(one for one, _ in pairs)
    worker._seat()
    worker._advance()
    assert worker.running == 4
    assert not worker.waiting[0].placed
    pairs[2][0].cancelled = True
    work(worker, [])
    assert [found.qsize() for _, found in pairs] == [1, 1, 0, 1, 1]
    assert count(worker, "answers_cancelled") == 1
    assert list(pairs[4][1].queue) == ask(place.worker(), [(talker.prompts()[4], long)])[0]


def test_when_the_devices_fail_everybody_is_told_and_the_next_is_answered(
    talker: Talker, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = place.worker()
    (lost, said), (later, answer) = (job(prompt, SETTINGS[0]) for prompt in talker.prompts()[:2])

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("RESOURCE_EXHAUSTED")

    monkeypatch.setattr(place.slots, "advance", fail)
    worker.start()
    worker.submit(lost)
    assert "the devices failed (RuntimeError: RESOURCE_EXHAUSTED); ask again" in str(said.get(timeout=60))
    worker.submit(later)
    assert answer.get(timeout=60).text
    assert worker.healthy
    worker.stop()
    worker.join(60)
    assert not worker.is_alive()
