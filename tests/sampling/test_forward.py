"""Groups of branches: laid out without loss, computed as if each branch stood alone."""

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.tiles import Tile, Tiles, in_order, one_tile
from rlaifv_jax.sampling.calls import TOKENS_AT_ONCE, build, plan
from rlaifv_jax.sampling.forward import Forward, NextToken
from rlaifv_jax.sampling.load import Speaker
from tests.sampling.talker import Talker

SIZE, PATCHES = 48, 9


def group(
    chance: np.random.Generator, branches: Sequence[int], *, prefix: int = 5, image: bool = True, labelled: bool = True
) -> Encoded:
    """Random tokens; branches of these lengths, the first half of their tokens labelled, or none."""
    before = chance.integers(260, 500, prefix)
    ids = np.insert(before, 2, -200) if image else before
    answers = []
    for length in branches:
        labels = np.zeros(length, bool)
        labels[: -(-length // 2)] = labelled
        answers.append(Answer(chance.integers(260, 500, length).astype(np.int32), labels))
    return Encoded(ids.astype(np.int32), tuple(answers), (), in_order(PATCHES) if image else None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), max_size=8), min_size=1, max_size=12),
    st.sampled_from([0, 128, 320]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_every_branch_stands_in_one_call_once(
    lengths: list[list[int]], row_length: int, unit: int, labelled: bool
) -> None:
    chance = np.random.default_rng(0)
    groups = [group(chance, each, image=number % 3 > 0, labelled=labelled) for number, each in enumerate(lengths)]
    picture = one_tile(np.zeros((SIZE, SIZE, 3), np.uint8))
    calls = plan(groups, Tile((SIZE, SIZE, 3), PATCHES), unit, row_length=row_length, longest_row=192)
    wanted = [(number, branch) for number, each in enumerate(lengths) for branch in range(len(each))]
    found = [(p.group, b) for call in calls for row in call.rows for p in row for b in range(p.first, p.stop)]
    assert sorted(found) == wanted
    assert len({call.shape.row_length for call in calls}) == len({call.shape for call in calls})
    for call in calls:
        assert len(call.rows) % unit == 0
        assert len(call.rows) * call.shape.row_length <= max(TOKENS_AT_ONCE, call.shape.row_length) * unit
        assert row_length or all(len(row) <= 1 for row in call.rows)
        batch, places = build(call, groups, lambda number: picture if groups[number].picture else None)
        for place in places:
            answer = groups[place.group].answers[place.branch]
            sources = batch.sources[place.row, place.start : place.start + place.count]
            if answer.labels.any():
                targets = batch.targets[place.row, place.start : place.start + place.count]
                assert targets.tolist() == answer.tokens[answer.labels].tolist()
            else:
                assert batch.tokens[place.row, sources[0]] == answer.tokens[-1]


@pytest.fixture(scope="module")
def forward(talker: Talker) -> Forward:
    return Forward.of(Speaker(talker.folder, dtype="float32"))


@pytest.fixture(scope="module")
def groups() -> list[Encoded]:
    chance = np.random.default_rng(1)
    lengths = [[3, 9, 4], [20] * 7, [5], [1, 30, 2, 8], [12, 2]]
    return [group(chance, each, prefix=4 + number, image=number != 2) for number, each in enumerate(lengths)]


def pixels(number: int) -> Tiles:
    return one_tile(np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


def alone(encoded: Encoded) -> list[Encoded]:
    """The same with every branch in a group of its own."""
    return [Encoded(encoded.prefix, (answer,), (), encoded.picture) for answer in encoded.answers]


@pytest.mark.parametrize("rows", [(0, 4096), (128, 4096), (0, 64)])
def test_log_probs_equal_those_of_branches_alone(
    forward: Forward, groups: list[Encoded], rows: tuple[int, int]
) -> None:
    shape = {"row_length": rows[0], "longest_row": rows[1]}
    found = dict(forward.log_probs(groups, pixels, set(range(len(groups))), **shape))
    for number, encoded in enumerate(groups):
        apart = alone(encoded)
        single = dict(
            forward.log_probs(apart, lambda _: pixels(number), set(range(len(apart))), row_length=0, longest_row=4096)  # noqa: B023
        )
        together = found[number]
        assert not isinstance(together, BadRow)
        for branch, values in enumerate(together):
            assert len(values) == encoded.answers[branch].labels.sum()
            np.testing.assert_allclose(values, single[branch][0], atol=1e-5)  # type: ignore[index]


def test_next_tokens_equal_those_of_prompts_alone(forward: Forward, talker: Talker) -> None:
    """And those of the forward pass of training."""
    prompts = talker.prompts()
    whole = [prompt.encoded for prompt in prompts]
    groups = [
        Encoded(w.prefix[:-4], tuple(Answer(w.prefix[-4:], np.zeros(4, bool)) for _ in range(2)), (), w.picture)
        for w in whole
    ]
    images = [prompt.image for prompt in prompts]
    found = dict(
        forward.next_tokens(groups, lambda n: images[n], set(range(5)), [7, 300], row_length=0, longest_row=4096)  # type: ignore[arg-type,return-value]
    )
    for number, prompt in enumerate(prompts):
        logits = talker.first_logits(prompt)
        chances = np.asarray(jax.nn.softmax(logits))[[7, 300]]
        verdicts = found[number]
        assert not isinstance(verdicts, BadRow)
        for verdict in verdicts:
            assert isinstance(verdict, NextToken)
            np.testing.assert_allclose(verdict.chances, chances, atol=1e-5)
            assert verdict.best == int(logits.argmax())


def test_what_is_wanted_changes_no_bit(forward: Forward, groups: list[Encoded]) -> None:
    shape = {"row_length": 128, "longest_row": 4096}
    every = dict(forward.log_probs(groups, pixels, set(range(5)), **shape))
    for wanted in ({0}, {1, 3}, {4}):
        some = dict(forward.log_probs(groups, pixels, wanted, **shape))
        assert some.keys() == wanted
        for number, values in some.items():
            assert all(map(np.array_equal, values, every[number]))  # type: ignore[arg-type]


def test_a_picture_that_cannot_be_read_costs_its_own_group_only(forward: Forward, groups: list[Encoded]) -> None:
    def broken(number: int) -> Tiles:
        if number == 1:
            raise BadRow("image_missing", "no file")
        return pixels(number)

    shape = {"row_length": 320, "longest_row": 4096}
    found = dict(forward.log_probs(groups, broken, set(range(5)), **shape))
    whole = dict(forward.log_probs(groups, pixels, set(range(5)), **shape))
    assert isinstance(found[1], BadRow)
    for number in (0, 2, 3, 4):
        for one, other in zip(found[number], whole[number], strict=True):  # type: ignore[arg-type]
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_on_several_devices(talker: Talker, groups: list[Encoded], forward: Forward) -> None:
    shape = {"row_length": 0, "longest_row": 4096}
    one = dict(forward.log_probs(groups, pixels, set(range(5)), **shape))
    for tensor in (1, 2):
        speaker = Speaker(talker.folder, dtype="float32", tensor=tensor)
        assert speaker.mesh.size == 8
        many = dict(Forward.of(speaker).log_probs(groups, pixels, set(range(5)), **shape))
        for number in range(5):
            for a, b in zip(one[number], many[number], strict=True):  # type: ignore[arg-type]
                np.testing.assert_allclose(a, b, atol=3e-5)


def test_the_account(forward: Forward, groups: list[Encoded]) -> None:
    before = forward.account
    forward.account = type(before)()
    list(forward.log_probs(groups, pixels, set(range(5)), row_length=0, longest_row=4096))
    account, forward.account = forward.account, before
    assert account.images == 4
    assert account.branches == sum(len(each.answers) for each in groups)
    assert account.positions == sum(each.row_length for each in groups)
