"""How many prompts fit, by arithmetic."""

from dataclasses import replace

import jax
import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.cache import CacheShape, new_cache, prompt_bytes
from rlaifv_jax.sampling.capacity import LENGTHS, prompts_in, rung, slot_length
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.queue import AHEAD, Queue

CONFIG = DecoderConfig(50, 12, 20, 3, 4, 2, 6, 1e4, 1e-5, None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("together", [False, True])
def test_bytes_are_those_of_the_cache(dtype: str, together: bool) -> None:
    shape = CacheShape(5, 3, together, 64, 16, dtype)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(new_cache(CONFIG, shape))) == 5 * prompt_bytes(CONFIG, shape)


def test_prompts_by_memory_and_mesh() -> None:
    shape = CacheShape(0, 4, False, 64, 16, "float32")
    one = prompt_bytes(CONFIG, shape)

    def found(sizes: tuple[int, int, int], free: float) -> int:
        devices = jax.devices()[: sizes[0] * sizes[2]]
        return prompts_in(CONFIG, shape, make_mesh(*sizes, devices), free)

    assert found((1, 1, 1), 4 * 3.5 * one) == 3  # a quarter of a CPU's memory
    assert found((1, 1, 1), 3.9 * one) == 0
    assert found((1, 1, 1), 1e12) == 8  # 32 branches
    assert found((1, 1, 2), 4 * 1.5 * one) == 3  # two key/value heads on two devices
    assert found((1, 1, 4), 4 * 1.5 * one) == 1  # which four cannot share
    assert found((4, 1, 1), 4 * 1.5 * one) == 4
    assert found((4, 1, 1), 1e12) == 8


def test_slots_have_few_lengths() -> None:
    assert (slot_length(1), slot_length(64), slot_length(65), slot_length(636)) == (64, 64, 128, 640)
    assert len(LENGTHS) < 40
    with pytest.raises(UserError, match="9000 positions is longer than all slots"):
        slot_length(9000)


class _Encoded:
    def __init__(self, positions: int):
        self.prefix_length = positions


def prompts(*positions: int) -> list[Prompt]:
    return [Prompt(_Encoded(n), None, str(n), n) for n in positions]  # type: ignore[arg-type]


def test_queue_serves_the_length_that_most_wait_for() -> None:
    queue = Queue(prompts(10, 100, 20, 110, 120, 30))
    assert queue.next_length() == 64  # that of the first
    assert [prompt.tag for prompt in queue.take(64, 2)] == [10, 20]
    assert [prompt.tag for prompt in queue.take(64, 5)] == [30]
    assert queue.take(64, 5) == []
    assert queue.next_length() == 128
    assert [prompt.tag for prompt in queue.take(128, 9)] == [100, 110, 120]
    assert queue.next_length() is None


def test_queue_does_not_read_far_ahead() -> None:
    read = []

    def source():  # type: ignore[no-untyped-def]
        for prompt in [*prompts(10), *prompts(*[100] * 1000), *prompts(11)]:
            read.append(prompt)
            yield prompt

    queue = Queue(source())
    assert queue.next_length() == 64
    assert len(queue.take(64, 2)) == 1
    assert len(read) <= AHEAD + 2
    assert replace(read[0]).tag == 10


def test_counts_of_tiles_come_in_few_sizes() -> None:
    rungs = sorted({rung(count) for count in range(65)})
    assert rungs == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    assert all(count <= rung(count) <= 1.25 * count for count in range(1, 1000))
