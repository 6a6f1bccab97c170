"""The batches depend on (seed, step) alone: not on hosts, workers or where a run was resumed."""

import numpy as np
import pytest

from rlaifv_jax.data import images, loader
from rlaifv_jax.data.index import admit, scan
from rlaifv_jax.data.loader import Loader
from rlaifv_jax.data.order import epoch_order
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.errors import UserError
from tests.data import small

COUNT = 11


class Numbered:
    """Reference log-probs that tell the row and the answer they belong to."""

    def __init__(self, source, encoder):
        self.source, self.encoder = source, encoder

    def per_target(self, row):
        answers = self.encoder.encode(self.source.example(row)).answers
        return tuple(np.full(a.labels.sum(), -(10 * row + n + 1), np.float32) for n, a in enumerate(answers))


@pytest.fixture
def parts(tmp_path, tokenizer_dir):
    source, encoder = small.source(tmp_path, COUNT), small.encoder(tokenizer_dir)
    index = admit(scan(source, encoder, image_size=small.SIZE, progress=False))
    return source, encoder, index


def load(parts, **settings):
    base = {"seed": 3, "pairs_per_step": 4, "image_size": small.SIZE, "accumulate": 2, "steps": 6}
    return list(Loader(*parts, **base | settings))


def assert_same(left, right):
    assert [step for step, _ in left] == [step for step, _ in right]
    for (_, a), (_, b) in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_contents_and_order(parts):
    """Steps take the permutations one after the other; every row is what its example gives."""
    source, encoder, index = parts
    stream = np.concatenate([epoch_order(COUNT, 3, epoch) for epoch in range(3)])
    loader = Loader(*parts, seed=3, pairs_per_step=4, image_size=small.SIZE, accumulate=2, steps=6)
    assert len(loader) == 6
    shape = RowShape(index.row_length, index.targets, small.SIZE, small.PATCHES)
    for step, batch in loader:
        examples = [source.example(int(row)) for row in index.rows[stream[4 * step : 4 * step + 4]]]
        rows = []
        for example in examples:
            pixels = example.image and images.center_crop(images.decode(example.image), small.SIZE)
            rows.append([Item(encoder.encode(example), pixels)])
        for mine, whole in zip(batch, build_rows(rows, shape), strict=True):
            np.testing.assert_array_equal(mine.reshape(whole.shape), whole)
        assert batch.tokens.shape == (2, 2, index.row_length)


def test_an_epoch_shows_every_pair_once(parts):
    """11 pairs, 4 a step: the third step ends one epoch and begins the next."""
    loader = Loader(*parts, seed=3, pairs_per_step=4, image_size=small.SIZE, steps=11)
    seen = [row[0] for step in range(11) for row in loader.build.row_plan(step)]
    for epoch in range(4):
        assert sorted(seen[epoch * COUNT : (epoch + 1) * COUNT]) == list(range(COUNT))
    assert seen[:COUNT] != seen[COUNT : 2 * COUNT]


def test_two_hosts_hold_what_one_host_holds(parts):
    whole = load(parts, pairs_per_step=8)
    halves = [load(parts, pairs_per_step=8, local_rows=np.array(rows)) for rows in ([0, 2], [1, 3])]
    for (_, batch), (_, left), (_, right) in zip(whole, *halves, strict=True):
        for full, a, b in zip(batch, left, right, strict=True):
            np.testing.assert_array_equal(full[:, [0, 2]], a)
            np.testing.assert_array_equal(full[:, [1, 3]], b)


def test_resuming_continues_the_unbroken_sequence(parts):
    whole = load(parts)
    for start in (1, 3, 6):
        assert_same(load(parts, start_step=start), whole[start:])


def test_accumulation_only_changes_the_shape(parts):
    for (_, one), (_, four) in zip(load(parts, accumulate=1), load(parts, accumulate=4), strict=True):
        for a, b in zip(one, four, strict=True):
            np.testing.assert_array_equal(a.reshape(b.shape), b)


def test_seeds_give_other_orders(parts):
    (_, a), (_, b) = load(parts, steps=1)[0], load(parts, steps=1, seed=4)[0]
    assert not np.array_equal(a.tokens, b.tokens)


@pytest.fixture
def _always_start_workers(monkeypatch):
    """Also for the few steps of a test, which are otherwise read in this process."""
    monkeypatch.setattr(loader, "WORTH_STARTING", 0)


@pytest.mark.usefixtures("_always_start_workers")
def test_workers_change_nothing(parts):
    assert_same(load(parts, workers=2, start_step=1), load(parts)[1:])


def test_evaluation_is_one_pass_with_empty_rows_at_the_end(parts):
    source, encoder, index = parts
    steps = load(parts, steps=None, shuffle=False)
    assert [step for step, _ in steps] == [0, 1, 2]
    full = np.concatenate([batch.pairs.ravel() for _, batch in steps])
    assert full.tolist() == [1.0] * COUNT + [0.0]
    for step, batch in steps:
        for place, tokens in enumerate(batch.tokens.reshape(4, -1)):
            if (row := 4 * step + place) < COUNT:
                prefix = encoder.encode(source.example(int(index.rows[row]))).prefix
                assert tokens[: prefix.argmin()].tolist() == prefix[: prefix.argmin()].tolist()
    _, last = steps[-1]
    assert not last.segments[1, 1].any()
    assert not last.weights[1, 1].any()
    # Hosts whose rows are all padding still get as many steps as the others.
    assert len(load(parts, steps=None, shuffle=False, local_rows=[1])) == 3


def test_images_can_be_padded_instead_of_cropped(parts):
    source, _, index = parts
    (_, batch) = load(parts, shuffle=False, steps=1, accumulate=1, pad_mean=images.CLIP_MEAN)[0]
    for place, row in enumerate(index.rows[:4]):
        if data := source.example(int(row)).image:
            whole = images.pad_to_square(images.decode(data))
            np.testing.assert_array_equal(batch.images[0, place, 0], images.center_crop(whole, small.SIZE))


def test_references_land_on_their_targets(parts):
    source, encoder, index = parts
    for _, batch in load(parts, shuffle=False, steps=None, accumulate=1, references=Numbered(source, encoder)):
        assert (batch.reference[batch.weights == 0] == 0).all()
        assert (batch.reference[batch.weights == 1] < 0).all()
    first = load(parts, shuffle=False, steps=1, accumulate=1, references=Numbered(source, encoder))[0][1]
    for row in range(4):
        used = first.weights[0, row] == 1
        expected = -(10 * index.rows[row] + first.owners[0, row][used] + 1)
        np.testing.assert_array_equal(first.reference[0, row][used], expected)


@pytest.mark.usefixtures("_always_start_workers")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_row_names_file_row_and_id(parts, tmp_path, workers):
    (tmp_path / "img/3.png").write_bytes(b"overwritten since the scan")
    with pytest.raises(UserError, match=r"data\.jsonl, row 3 \(id id3\): .* not what the check"):
        load(parts, shuffle=False, steps=None, workers=workers)


def test_settings_that_cannot_work_are_refused(parts):
    source, encoder, index = parts
    with pytest.raises(UserError, match="legal: 1, 2, 4"):
        load(parts, accumulate=3)
    with pytest.raises(ValueError, match="not all within the 2 rows"):
        load(parts, local_rows=[2])
    with pytest.raises(UserError, match="no usable row"):
        load((source, encoder, index.take(np.array([], int))))
    raw = scan(source, encoder, image_size=small.SIZE, progress=False)
    with pytest.raises(ValueError, match="admit"):
        load((source, encoder, raw))
    assert load((source, encoder, raw), row_length=512, targets=128)[0][1].tokens.shape == (2, 2, 512)
