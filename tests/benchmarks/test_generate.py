"""The benchmark of generation on a tiny model: both sides do the same job."""

from pathlib import Path

import pytest

from benchmarks import model, timing
from benchmarks.generate import Ours, Theirs, agreement, measure
from benchmarks.model import TINY
from benchmarks.pairs import Lengths, make_pairs
from rlaifv_jax.models.blueprint import unstack


@pytest.mark.parametrize(("questions", "samples"), [(1, 3), (2, 1)])
def test_a_case(questions: int, samples: int) -> None:
    llava = model.torch_model(TINY, 0)
    opened, params = model.ours(llava)
    pairs = make_pairs(questions, TINY, Lengths(prompt=9), Path("/nowhere"))
    ours, theirs = Ours(opened, unstack(params), pairs, TINY, ""), Theirs(llava, pairs, TINY)
    found = measure("a case", ours, theirs, samples, new_tokens=5, rounds=2, setting={})
    setting = found["setting"]
    assert agreement(ours, theirs, new_tokens=5) == 1
    assert setting["computed by ours"] == {
        "images": questions,
        "prompt positions": 64 * questions,
        "passes": 4 * questions * samples,
    }
    length = 9 + TINY.image_tokens
    assert setting["computed by transformers"]["prompt positions"] == questions * samples * length
    assert "transformers" in timing.table([found])
