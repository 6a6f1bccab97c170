"""The batches depend on (seed, step) alone: not on hosts, workers or where a run was resumed."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from rlaifv_jax.data import images, loader
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.index import admit, scan
from rlaifv_jax.data.loader import Loader
from rlaifv_jax.data.packing import Deal, PassPlan, TrainingPlan
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.tiles import one_tile
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
    index = admit(scan(source, encoder, progress=False))
    return source, encoder, index


def shape_of(index, pairs=1):
    longest, targets = pairs * int(index.lengths.max()), pairs * int(index.sizes.targets.max())
    return RowShape(longest, targets, small.SQUARE.tile, images=pairs, pairs=pairs)


def training(index, *, rows=4, steps=6, pairs=4, seed=3, in_row=1):
    deal = Deal(index.lengths, seed=seed, pairs=pairs)
    return TrainingPlan(index.sizes, deal, shape_of(index, in_row), rows=rows, steps=steps)


def one_pass(index, rows=4):
    return PassPlan(index.sizes, shape_of(index), rows=rows)


def load(parts, plan=None, **settings):
    return list(Loader(*parts, plan or training(parts[2]), **{"accumulate": 2} | settings))


def assert_same(left, right):
    assert [step for step, _ in left] == [step for step, _ in right]
    for (_, a), (_, b) in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("in_row", [1, 2])
def test_every_row_is_what_its_examples_give(parts, in_row):
    source, encoder, index = parts
    plan = training(index, rows=4 // in_row, in_row=in_row)
    steps = load(parts, plan)
    assert [step for step, _ in steps] == list(range(6))
    for step, batch in steps:
        rows = []
        for places in plan(step):
            examples = [source.example(int(index.rows[place])) for place in places]
            shown = [e.image and one_tile(images.center_crop(images.decode(e.image), small.SIZE)) for e in examples]
            rows.append([Item(encoder.encode(e), tiles) for e, tiles in zip(examples, shown, strict=True)])
        for mine, whole in zip(batch, build_rows(rows, plan.shape), strict=True):
            np.testing.assert_array_equal(mine.reshape(whole.shape), whole)
        assert batch.pairs.sum() == 4
        assert batch.tokens.shape == (2, 2 // in_row, plan.shape.row_length)


def test_two_hosts_hold_what_one_host_holds(parts):
    plan = training(parts[2], rows=8, pairs=7)  # one row stays empty
    whole = load(parts, plan)
    halves = [load(parts, plan, local_rows=np.array(rows)) for rows in ([0, 2], [1, 3])]
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
    (_, a), (_, b) = load(parts)[0], load(parts, training(parts[2], seed=4))[0]
    assert not np.array_equal(a.tokens, b.tokens)


@pytest.fixture
def _always_start_workers(monkeypatch):
    """Also for the few steps of a test, which are otherwise read in this process."""
    monkeypatch.setattr(loader, "WORTH_STARTING", 0)


@pytest.mark.usefixtures("_always_start_workers")
def test_workers_change_nothing(parts):
    assert_same(load(parts, workers=2, start_step=1), load(parts)[1:])


@pytest.mark.usefixtures("_always_start_workers")
def test_workers_that_die_are_replaced(parts, capsys):
    plan = training(parts[2], steps=20)
    batches = iter(Loader(*parts, plan, accumulate=2, workers=2, start_step=3))
    found = [next(batches)]
    kill_a_worker()
    found += batches
    assert_same(found, load(parts, plan)[3:])
    assert "warning: a data worker died (with exit code -9); workers start again at step" in capsys.readouterr().err


@pytest.mark.usefixtures("_always_start_workers")
def test_workers_that_die_again_and_again_end_the_run(parts, monkeypatch):
    monkeypatch.setattr(loader, "RESTARTS", 0)
    batches = iter(Loader(*parts, training(parts[2], steps=20), accumulate=2, workers=1))
    next(batches)
    kill_a_worker()
    with pytest.raises(UserError, match=r"data workers die again and again at step \d+ \(with exit code -9\)"):
        list(batches)


def kill_a_worker():
    for worker in multiprocessing.active_children()[:1]:
        os.kill(worker.pid, signal.SIGKILL)


def test_evaluation_is_one_pass_with_empty_rows_at_the_end(parts):
    source, encoder, index = parts
    plan = one_pass(index)
    steps = load(parts, plan)
    assert [step for step, _ in steps] == [0, 1, 2]
    full = np.concatenate([batch.pairs.ravel() for _, batch in steps])
    assert full.tolist() == [1.0] * COUNT + [0.0]
    for step, batch in steps:
        for places, tokens in zip(plan(step), batch.tokens.reshape(4, -1), strict=True):
            for place in places:
                prefix = encoder.encode(source.example(int(index.rows[place]))).prefix
                assert tokens[: prefix.argmin()].tolist() == prefix[: prefix.argmin()].tolist()
    _, last = steps[-1]
    assert not last.segments[1, 1].any()
    assert not last.weights[1, 1].any()
    # Hosts whose rows are all padding still get as many steps as the others.
    assert len(load(parts, plan, local_rows=[1])) == 3


@pytest.mark.usefixtures("_always_start_workers")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("in_row", [1, 2])
def test_weights_land_on_changed_tokens(parts, workers, in_row):
    source, encoder, _ = parts
    exact = Differences("answers", spread_image=False, pad=0)
    index = admit(scan(source, encoder, differences=exact, progress=False))
    index = index.take(np.arange(len(index))[::-1])
    plan = training(index, rows=4 // in_row, in_row=in_row, steps=3)
    found = load((source, encoder, index), plan, accumulate=1, token_weight=2.5, workers=workers)
    seen = set()
    for (step, batch), (_, plain) in zip(found, load((source, encoder, index), plan, accumulate=1), strict=True):
        assert_same([(step, batch._replace(weights=plain.weights))], [(step, plain)])
        for row, places in enumerate(plan(step)):
            marks = [exact.marks(encoder.encode(source.example(int(index.rows[place])))) for place in places]
            for owner, each in enumerate([each for pair in marks for each in pair]):
                mine = (batch.owners[0, row] == owner) & (plain.weights[0, row] > 0)
                np.testing.assert_array_equal(batch.weights[0, row][mine], np.where(each, 2.5, 1.0))
        assert not batch.weights[plain.weights == 0].any()
        seen |= set(np.unique(batch.weights))
    assert seen == {0, 1, 2.5}


def test_images_can_be_padded_instead_of_cropped(parts):
    source, encoder, index = parts
    plan, padded = one_pass(index), replace(encoder, processor=Square(small.SQUARE.tile, "pad"))
    (_, batch) = load((source, padded, index), plan, accumulate=1)[0]
    for row, [place] in enumerate(plan(0)):
        if data := source.example(int(index.rows[place])).image:
            whole = images.pad_to_square(images.decode(data))
            np.testing.assert_array_equal(batch.images[0, row, 0], images.center_crop(whole, small.SIZE))


def test_references_land_on_their_targets(parts):
    source, encoder, index = parts
    plan = one_pass(index)
    steps = load(parts, plan, accumulate=1, references=Numbered(source, encoder))
    for _, batch in steps:
        assert (batch.reference[batch.weights == 0] == 0).all()
        assert (batch.reference[batch.weights == 1] < 0).all()
    first = steps[0][1]
    for row, [place] in enumerate(plan(0)):
        used = first.weights[0, row] == 1
        expected = -(10 * index.rows[place] + first.owners[0, row][used] + 1)
        np.testing.assert_array_equal(first.reference[0, row][used], expected)


@pytest.mark.usefixtures("_always_start_workers")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_row_names_file_row_and_id(parts, tmp_path, workers):
    (tmp_path / "img/3.png").write_bytes(b"overwritten since the scan")
    with pytest.raises(UserError, match=r"data\.jsonl, row 3 \(id id3\): .* not what the check"):
        load(parts, one_pass(parts[2]), workers=workers)


def test_settings_that_cannot_work_are_refused(parts):
    with pytest.raises(ValueError, match="4 rows do not divide into 3"):
        load(parts, accumulate=3)
    with pytest.raises(ValueError, match="not all within the 2 rows"):
        load(parts, local_rows=[2])
