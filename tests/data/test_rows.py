"""Any number of pairs in a row: masks, positions, sources and targets, against a token-by-token reading."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.tiles import NEWLINE, Placement, Tile, Tiles, in_order, one_tile

PATCHES = 5
SIZE = 2
TILE = Tile((SIZE, SIZE, 3), PATCHES)


@st.composite
def items(draw):
    """An example with or without an image of one to three tiles, whose features stand at one to three places, with ends
    of lines among them; one or two answers, some tokens unlabelled."""
    tiles = draw(st.integers(0, 3))
    prefix = draw(st.lists(st.integers(1, 99), min_size=1, max_size=6))
    features = st.sampled_from([*range(tiles * PATCHES), NEWLINE])
    places = draw(st.lists(st.lists(features, min_size=1, max_size=6), min_size=1, max_size=3)) if tiles else []
    for _ in places:
        prefix.insert(draw(st.integers(0, len(prefix))), IMAGE_TOKEN)
    answers = []
    for _ in range(draw(st.integers(1, 2))):
        labels = [True, *draw(st.lists(st.booleans(), max_size=5))]
        tokens = draw(st.lists(st.integers(1, 99), min_size=len(labels), max_size=len(labels)))
        answers.append(Answer(np.array(tokens, np.int32), np.array(labels)))
    picture = Placement(tiles, tuple(np.array(each, np.int32) for each in places)) if tiles else None
    encoded = Encoded(np.array(prefix, np.int32), tuple(answers), (False,) * len(answers), picture)
    shown = draw(st.lists(st.integers(1, 255), min_size=tiles, max_size=tiles))
    pixels = np.zeros((tiles, SIZE, SIZE, 3), np.uint8) + np.array(shown, np.uint8)[:, None, None, None]
    image = Tiles(pixels, np.array([[n, 2 * n] for n in shown], np.int32)) if tiles else None
    reference = [np.arange(1, answer.labels.sum() + 1, dtype=np.float32) for answer in answers]
    weights = [values / 8 + 1 for values in reference] if draw(st.booleans()) else None
    return Item(encoded, image, reference, weights)


@given(st.lists(st.lists(items(), max_size=3), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_every_branch_reads_like_a_row_of_its_own(rows):
    pairs = 3
    shape = RowShape(row_length=120, targets=40, tile=TILE, images=9, pairs=pairs)
    batch = build_rows(rows, shape)
    for number, row in enumerate(rows):
        b = type(batch)(*(leaf[number] for leaf in batch))
        seen = []
        tile = 0  # of the row's, the first of the picture's
        for pair, item in enumerate(row):
            stands = iter(item.encoded.picture.places if item.encoded.picture else ())
            parts = [next(stands).tolist() if t == IMAGE_TOKEN else t for t in item.encoded.prefix.tolist()]
            here = b.segments == pair + 1
            for which, answer in enumerate(item.encoded.answers):
                # What a query of this branch may see, in row order, is the conversation on its own.
                visible = here & ((b.branches == 0) | (b.branches == which + 1))
                places = np.flatnonzero(visible)
                assert b.positions[places].tolist() == list(range(len(places)))
                expected = []
                for part in [*parts, *answer.tokens.tolist()]:
                    lines = [
                        ("line", NEWLINE) if f == NEWLINE else ("patch", tile * PATCHES + f) for f in np.ravel(part)
                    ]
                    expected += lines if isinstance(part, list) else [("token", part)]
                kinds = {-1: "token", NEWLINE: "line"}
                read = [
                    (kinds.get(patch, "patch"), int(b.tokens[p]) if patch == -1 else patch)
                    for p in places
                    for patch in [int(b.patches[p])]
                ]
                assert read == expected
                # Next-token prediction in the conversation alone = the targets of this owner.
                mine = (b.owners == 2 * pair + which) & (b.weights > 0)
                prefix_length = item.encoded.prefix_length
                wanted = [
                    (int(places[prefix_length + j - 1]), int(answer.tokens[j])) for j in np.flatnonzero(answer.labels)
                ]
                assert list(zip(b.sources[mine].tolist(), b.targets[mine].tolist(), strict=True)) == wanted
                np.testing.assert_array_equal(b.reference[mine], item.reference[which])
                np.testing.assert_array_equal(b.weights[mine], 1 if item.weights is None else item.weights[which])
                seen += wanted
            if item.image is not None:
                here = slice(tile, tile + item.encoded.tiles)
                np.testing.assert_array_equal(b.images[here], item.image.pixels)
                np.testing.assert_array_equal(b.grids[here], item.image.grids)
                tile += item.encoded.tiles
        assert not b.images[tile:].any()
        used = sum(item.encoded.row_length for item in row)
        assert (b.segments > 0).sum() == used
        assert not b.segments[used:].any()
        assert (b.weights > 0).sum() == len(seen)
        assert b.pairs.tolist() == [1.0] * len(row) + [0.0] * (pairs - len(row))
        padding = b.segments == 0
        assert not b.tokens[padding].any()
        assert not b.branches[padding].any()
        assert not b.positions[padding].any()
        assert (b.patches[padding] == -1).all()
        for leaf in (b.sources, b.targets, b.owners, b.reference):
            assert not leaf[b.weights == 0].any()


def simple(prefix=3, answers=(2, 2), image=True):
    tokens = np.arange(1, prefix + 1, dtype=np.int32)
    if image:
        tokens[0] = IMAGE_TOKEN
    branches = tuple(Answer(np.ones(n, np.int32), np.ones(n, bool)) for n in answers)
    tiles = one_tile(np.ones((SIZE, SIZE, 3), np.uint8)) if image else None
    return Item(Encoded(tokens, branches, (False, False), in_order(PATCHES) if image else None), tiles)


def test_what_does_not_fit_is_an_error():
    item = simple()  # 7 + 2 + 2 positions, 4 targets
    fitting = {"row_length": 11, "targets": 4, "tile": TILE}
    build_rows([[item]], RowShape(**fitting))
    for name in ("row_length", "targets"):
        with pytest.raises(ValueError, match="a row needs"):
            build_rows([[item]], RowShape(**fitting | {name: fitting[name] - 1}))
    double = {"row_length": 22, "targets": 8, "tile": TILE}
    with pytest.raises(ValueError, match="a row needs"):
        build_rows([[item, item]], RowShape(**double))
    with pytest.raises(ValueError, match="more than 1 tiles"):
        build_rows([[item, item]], RowShape(**double, pairs=2))
    with pytest.raises(ValueError, match="how many tiles"):
        build_rows([[Item(item.encoded)]], RowShape(**fitting))
    three = [np.ones(3), np.ones(2)]
    with pytest.raises(ValueError, match="3 reference log-probs for 2"):
        build_rows([[Item(item.encoded, item.image, three)]], RowShape(**fitting))
    with pytest.raises(ValueError, match="3 weights for 2"):
        build_rows([[Item(item.encoded, item.image, None, three)]], RowShape(**fitting))


def test_types_are_those_of_the_contract():
    batch = build_rows([[simple()], []], RowShape(16, 8, TILE))
    kinds = {name: leaf.dtype.name for name, leaf in batch._asdict().items()}
    floats = {"weights", "reference", "pairs"}
    assert kinds == {n: "float32" if n in floats else "uint8" if n == "images" else "int32" for n in kinds}
    assert batch.images.shape == (2, 1, SIZE, SIZE, 3)
    assert not batch.segments[1].any()
    assert not batch.pairs[1].any()
