"""Random views: which are drawn, what each operation does, and that a view belongs to its row."""

import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.augment import GREY, OPS, Augment, View, draw, show
from rlaifv_jax.data.index import admit, scan
from rlaifv_jax.data.loader import Loader
from rlaifv_jax.data.packing import Deal, PassPlan, TrainingPlan
from rlaifv_jax.data.rows import RowShape
from tests.data import small


def picture(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def grey_picture(values: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.repeat(np.array(values, np.uint8)[..., None], 3, axis=2))


def done(name: str, values: list[list[int]], sign: int = 1) -> np.ndarray:
    """One channel of what an operation makes of a picture without colours."""
    return np.asarray(OPS[name](grey_picture(values), sign))[..., 0]


# ---------------------------------------------------------------- draws


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_a_crop_lies_in_the_picture_and_keeps_half_of_it_if_it_can(width: int, height: int, seed: int) -> None:
    left, upper, right, lower = draw((width, height), np.random.default_rng(seed)).box
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    w, h = right - left, lower - upper
    if min(width, height) >= 40 and max(width, height) <= 4 / 3 * min(width, height):
        assert w * h >= 0.45 * width * height  # sides are rounded
        assert 0.7 < w / h < 1.42


def test_very_oblong_pictures_lose_their_ends() -> None:
    assert draw((3000, 30), np.random.default_rng(0)).box == (1480, 0, 1520, 30)
    assert draw((30, 3000), np.random.default_rng(0)).box == (0, 1480, 30, 1520)


def test_how_often_what_is_drawn() -> None:
    """4,000 views: within four standard deviations of the published chances."""
    chance, count = np.random.default_rng(1), 4000
    views = [draw((400, 400), chance) for _ in range(count)]

    def expect(found: int, share: float, of: int = count) -> None:
        assert abs(found - share * of) < 4 * np.sqrt(of * share * (1 - share))

    expect(sum(view.flip for view in views), 0.5)
    for number, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
        expect(sum(len(view.ops) == number for view in views), share)
    ops = Counter(op for view in views for op in view.ops)
    assert {name for name, _ in ops} == set(OPS)
    for op in ops:
        expect(ops[op], 1 / 20, sum(ops.values()))
    areas = [(view.box[2] - view.box[0]) * (view.box[3] - view.box[1]) / 400**2 for view in views]
    assert min(areas) >= 0.49
    assert max(areas) <= 1
    assert sum(area > 0.95 for area in areas) > 0  # such crops rarely fit, so areas are not uniform
    assert 0.6 < np.mean(areas) < 0.75
    assert np.corrcoef([view.flip for view in views], areas)[0, 1] == pytest.approx(0, abs=0.07)


# ---------------------------------------------------------------- operations


def test_ramps_of_brightness() -> None:
    ramp = [[10, 20], [30, 40]]
    assert done("identity", ramp).tolist() == ramp
    assert done("brightness", ramp).tolist() == [[13, 27], [40, 54]]  # times 1.36, cut off
    assert done("autocontrast", ramp).tolist() == [[0, 85], [170, 255]]
    assert done("brightness", [[200, 0]]).tolist() == [[255, 0]]


def test_equalize_spreads_what_occurs() -> None:
    values = np.repeat([[50], [51], [52], [53]], 256, axis=1).tolist()
    assert sorted(set(done("equalize", values).ravel().tolist())) == [0, 85, 171, 255]  # (1 + 256 n) // 3


def test_sharpness_pushes_away_from_the_mean_around() -> None:
    values = np.full((5, 5), 100)
    values[2, 2] = 126  # the smoothed picture has 110 there and 102 beside it
    expected = np.full((5, 5), 100)
    expected[1:4, 1:4] = 99
    expected[2, 2] = 131  # 110 + 1.36 · 16
    assert done("sharpness", values.tolist()).tolist() == expected.tolist()


@pytest.mark.parametrize("sign", [1, -1])
def test_shifts(sign: int) -> None:
    values = np.arange(100).reshape(10, 10)
    across = done("translate x", values.tolist(), sign)
    if sign > 0:
        assert np.array_equal(across[:, :3], values[:, 7:])
        assert (across[:, 3:] == 128).all()
    else:
        assert np.array_equal(across[:, 7:], values[:, :3])
        assert (across[:, :7] == 128).all()
    assert np.array_equal(done("translate y", values.T.tolist(), sign).T, across)


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_keep_the_first_line_and_move_the_others(sign: int) -> None:
    size = 60
    values = np.tile(np.arange(size), (size, 1))  # every pixel holds its column
    sheared = done("shear x", values.tolist(), sign).astype(float)
    assert np.array_equal(sheared[0], values[0])
    for line in (10, 20, 30):
        inside = slice(10, size - 10)
        assert sheared[line, inside] == pytest.approx(values[line, inside] - sign * 0.21 * line, abs=1)
    corner = sheared[size - 1, 0 if sign > 0 else size - 1]
    assert corner == GREY[0]
    assert np.array_equal(done("shear y", values.T.tolist(), sign).T, sheared)


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation(sign: int) -> None:
    """A bright spot on the right goes up or down by 21 degrees around the pixel behind the middle."""
    values = np.zeros((101, 101), int)
    values[49:52, 89:92] = 255  # around (90, 50), which is 39.5 to the right of and half a pixel above (50.5, 50.5)
    turned = done("rotate", values.tolist(), sign).astype(float)
    assert turned[0, 0] == turned[-1, -1] == GREY[0]
    turned[turned == GREY[0]] = 0
    y, x = np.indices(turned.shape)
    angle = np.deg2rad(21 * sign)
    right, up = 39.5 * np.cos(angle) - 0.5 * np.sin(angle), 39.5 * np.sin(angle) + 0.5 * np.cos(angle)
    near = turned * (np.hypot(x - 50.5 - right, y - 50.5 + up) < 6)
    assert (near * x).sum() / near.sum() == pytest.approx(50.5 + right, abs=0.2)
    assert (near * y).sum() / near.sum() == pytest.approx(50.5 - up, abs=0.2)


def test_a_view_is_crop_flip_and_operations_in_their_order() -> None:
    image = picture()
    plain = show(image, View((0, 0, 40, 30), False, ()), 16)
    assert np.array_equal(plain, images.square(image, 16, "squash"))
    assert np.array_equal(show(image, View((0, 0, 40, 30), True, ()), 16), plain[:, ::-1])
    part = show(image.crop((4, 2, 34, 28)), View((0, 0, 30, 26), False, ()), 16)
    assert np.array_equal(show(image, View((4, 2, 34, 28), False, ()), 16), part)
    view = View((0, 0, 40, 30), False, (("brightness", 1), ("translate x", 1)))
    bright_first = show(image, view, 16)
    assert tuple(bright_first[0, -1]) == GREY
    assert not np.array_equal(show(image, view._replace(ops=view.ops[::-1]), 16), bright_first)


# ---------------------------------------------------------------- rows and steps


def test_a_view_is_decided_by_seed_row_and_if_fresh_by_step() -> None:
    image = picture()
    for fresh in (False, True):
        views = pickle.loads(pickle.dumps(Augment(7, fresh)))
        seen = {
            (seed, row, step): Augment(seed, fresh)(image, 24, row=row, step=step).tobytes()
            for seed in (7, 8)
            for row in (0, 1)
            for step in (0, 1)
        }
        assert len(set(seen.values())) == (8 if fresh else 4)
        assert views(image, 24, row=1, step=1).tobytes() == seen[7, 1, 1]
    fixed = Augment(7)(image, 24, row=1, step=1)
    assert all(not np.array_equal(Augment(7, True)(image, 24, row=1, step=step), fixed) for step in range(5))


@pytest.fixture(scope="module")
def parts(tmp_path_factory, tokenizer_dir):
    source, encoder = small.source(tmp_path_factory.mktemp("augment"), 11), small.encoder(tokenizer_dir)
    return source, encoder, admit(scan(source, encoder, progress=False))


def pixels(loader: Loader, index) -> dict[tuple[int, int], bytes]:
    """By step and row of the source."""
    found = {}
    for step, batch in loader:
        for places, images_ in zip(loader.plan(step), batch.images.reshape(-1, *batch.images.shape[-4:]), strict=True):
            for place in places:
                found[step, int(index.rows[place])] = images_[0].tobytes()
    return found


@pytest.mark.parametrize("fresh", [False, True])
def test_batches_hold_the_views_however_they_are_made(parts, fresh) -> None:
    index = parts[2]
    shape = RowShape(int(index.lengths.max()), int(index.sizes.targets.max()), small.SQUARE.tile)
    plan = TrainingPlan(index.sizes, Deal(index.lengths, seed=3, pairs=4), shape, rows=4, steps=6)
    load = partial(Loader, *parts, augment=Augment(5, fresh))
    alone = pixels(load(plan), index)
    assert pixels(load(plan, workers=2), index) == alone
    resumed = pixels(load(plan, start_step=4), index)
    assert resumed == {key: value for key, value in alone.items() if key[0] >= 4}
    for (step, row), content in alone.items():
        example = parts[0].example(row)
        if example.image is not None:
            image = images.decode(example.image)
            assert Augment(5, fresh)(image, small.SIZE, row=row, step=step).tobytes() == content
    once = pixels(Loader(*parts, PassPlan(index.sizes, shape, rows=4), augment=Augment(5)), index)
    reference = {row: content for (_, row), content in once.items()}
    pictured = [key for key in alone if parts[0].example(key[1]).image is not None]
    agree = [alone[key] == reference[key[1]] for key in pictured]
    assert not any(agree) if fresh else all(agree)
