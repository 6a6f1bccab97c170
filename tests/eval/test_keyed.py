"""Rows by their id, and figures rounded as Python rounds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.keyed import keyed, partner
from eval.rounding import rounded
from rlaifv_jax.errors import UserError

FILE = Path("x.json")


def test_keys_are_texts_and_rows_keep_their_order():
    rows = [{"id": 2}, {"id": "1"}]
    assert keyed(rows, "id", FILE) == {"2": rows[0], "1": rows[1]}
    assert list(keyed(rows, "id", FILE)) == ["2", "1"]
    assert partner(keyed(rows, "id", FILE), "1", FILE, "y") is rows[1]


@pytest.mark.parametrize("rows", [[{}], [{"id": None}], [{"id": [1]}], [{"id": 1}, {"id": "1"}]])
def test_rows_without_an_id_or_with_the_same(rows):
    with pytest.raises(UserError, match=r"x\.json, row \d: .*id"):
        keyed(rows, "id", FILE)


def test_a_partner_that_is_not_there():
    with pytest.raises(UserError, match=r"x\.json has no row 3, which y, id 3 needs"):
        partner({}, "3", FILE, "y, id 3")


@given(st.lists(st.floats(allow_nan=False, min_value=-1e6, max_value=1e6)), st.integers(0, 3))
def test_rounded_as_python_does(values, digits):
    assert rounded(values, digits).tolist() == [round(value, digits) for value in values]
    assert rounded(np.array([[0.15, np.nan]]), 1).shape == (1, 2)


def test_rounded_differs_from_numpy_where_that_errs():
    assert float(rounded(0.15, 1)) == round(0.15, 1) == 0.1
    assert np.round(0.15, 1) == 0.2
    assert np.isnan(rounded(np.nan, 1))
