"""The benchmark of claims on a tiny model: all contenders find the same scores."""

from pathlib import Path

import pytest

from benchmarks import model, timing
from benchmarks.model import TINY
from benchmarks.score import BEFORE, QUESTION, Claims, Ours, Theirs, measure


@pytest.mark.parametrize("count", [1, 7])
def test_a_case(count: int) -> None:
    llava = model.torch_model(TINY, 0)
    opened, params = model.ours(llava)
    claims = Claims(count, TINY, Path("/nowhere"))
    found = measure("a case", Ours(opened, params, claims), Theirs(llava, claims), rounds=2, setting={})
    setting = found["setting"]
    assert setting["largest difference of scores"] < 1e-5
    prefix = TINY.image_tokens + BEFORE
    assert setting["positions computed"] == {
        "ours": prefix + count * QUESTION,
        "transformers": count * (prefix + QUESTION),
    }
    assert setting["images computed"] == {"ours": 1, "transformers": count}
    assert "transformers, prefix cached" in timing.table([found])
