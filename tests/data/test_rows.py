"""Any number of pairs in a row: masks, positions, sources and targets, against a token-by-token reading."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item, RowShape, build_rows

PATCHES = 5
SIZE = 2


@st.composite
def items(draw):
    """An example with or without an image, one or two answers, some tokens unlabelled."""
    image = draw(st.booleans())
    prefix = draw(st.lists(st.integers(1, 99), min_size=1, max_size=6))
    if image:
        prefix.insert(draw(st.integers(0, len(prefix))), IMAGE_TOKEN)
    answers = []
    for _ in range(draw(st.integers(1, 2))):
        labels = [True, *draw(st.lists(st.booleans(), max_size=5))]
        tokens = draw(st.lists(st.integers(1, 99), min_size=len(labels), max_size=len(labels)))
        answers.append(Answer(np.array(tokens, np.int32), np.array(labels)))
    count = PATCHES if image else 0
    encoded = Encoded(np.array(prefix, np.int32), tuple(answers), (False,) * len(answers), count)
    pixels = np.full((SIZE, SIZE, 3), draw(st.integers(1, 255)), np.uint8) if image else None
    reference = [np.arange(1, answer.labels.sum() + 1, dtype=np.float32) for answer in answers]
    weights = [values / 8 + 1 for values in reference] if draw(st.booleans()) else None
    return Item(encoded, pixels, reference, weights)


@given(st.lists(st.lists(items(), max_size=3), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_every_branch_reads_like_a_row_of_its_own(rows):
    pairs = 3
    shape = RowShape(row_length=80, targets=40, image_size=SIZE, image_tokens=PATCHES, images=3, pairs=pairs)
    batch = build_rows(rows, shape)
    for number, row in enumerate(rows):
        b = type(batch)(*(leaf[number] for leaf in batch))
        seen = []
        for pair, item in enumerate(row):
            here = b.segments == pair + 1
            for which, answer in enumerate(item.encoded.answers):
                # What a query of this branch may see, in row order, is the conversation on its own.
                visible = here & ((b.branches == 0) | (b.branches == which + 1))
                places = np.flatnonzero(visible)
                assert b.positions[places].tolist() == list(range(len(places)))
                expected = []
                for token in [*item.encoded.prefix.tolist(), *answer.tokens.tolist()]:
                    expected += ["image"] * PATCHES if token == IMAGE_TOKEN else [token]
                read = ["image" if b.patches[p] >= 0 else int(b.tokens[p]) for p in places]
                assert read == expected
                patches = b.patches[places][b.patches[places] >= 0]
                if item.image is not None:
                    slot = patches[0] // PATCHES
                    assert patches.tolist() == list(range(slot * PATCHES, (slot + 1) * PATCHES))
                    np.testing.assert_array_equal(b.images[slot], item.image)
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
    pixels = np.ones((SIZE, SIZE, 3), np.uint8) if image else None
    return Item(Encoded(tokens, branches, (False, False), PATCHES if image else 0), pixels)


def test_what_does_not_fit_is_an_error():
    item = simple()  # 7 + 2 + 2 positions, 4 targets
    fitting = {"row_length": 11, "targets": 4, "image_size": SIZE, "image_tokens": PATCHES}
    build_rows([[item]], RowShape(**fitting))
    for name in ("row_length", "targets"):
        with pytest.raises(ValueError, match="a row needs"):
            build_rows([[item]], RowShape(**fitting | {name: fitting[name] - 1}))
    double = {"row_length": 22, "targets": 8, "image_size": SIZE, "image_tokens": PATCHES}
    with pytest.raises(ValueError, match="a row needs"):
        build_rows([[item, item]], RowShape(**double))
    with pytest.raises(ValueError, match="more than 1 images"):
        build_rows([[item, item]], RowShape(**double, pairs=2))
    with pytest.raises(ValueError, match="whether there is an image"):
        build_rows([[Item(item.encoded)]], RowShape(**fitting))
    three = [np.ones(3), np.ones(2)]
    with pytest.raises(ValueError, match="3 reference log-probs for 2"):
        build_rows([[Item(item.encoded, item.image, three)]], RowShape(**fitting))
    with pytest.raises(ValueError, match="3 weights for 2"):
        build_rows([[Item(item.encoded, item.image, None, three)]], RowShape(**fitting))


def test_types_are_those_of_the_contract():
    batch = build_rows([[simple()], []], RowShape(16, 8, SIZE, PATCHES))
    kinds = {name: leaf.dtype.name for name, leaf in batch._asdict().items()}
    floats = {"weights", "reference", "pairs"}
    assert kinds == {n: "float32" if n in floats else "uint8" if n == "images" else "int32" for n in kinds}
    assert batch.images.shape == (2, 1, SIZE, SIZE, 3)
    assert not batch.segments[1].any()
    assert not batch.pairs[1].any()
