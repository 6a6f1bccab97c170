"""Rounding as published figures were rounded."""

from typing import Any

import numpy as np


def rounded(values: Any, digits: int) -> Any:
    """Elementwise as Python's `round`, which looks at the exact value; NumPy's multiplies first and errs near ties."""
    values = np.asarray(values, np.float64)
    return np.reshape([round(float(value), digits) for value in values.flat], values.shape).astype(np.float64)
