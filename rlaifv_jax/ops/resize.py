"""Interpolation of tables of positions."""

import jax
import jax.numpy as jnp
import numpy as np

SHARPNESS = -0.75  # the `a` of PyTorch's bicubic kernel without antialiasing; jax.image and antialiasing have -0.5


def bicubic(table: jax.Array, side: int) -> jax.Array:
    """float32[h, w, D] → [side, side, D], as torch.nn.functional.interpolate(mode='bicubic', align_corners=False)."""
    rows, columns = (jnp.asarray(_weights(length, side), jnp.float32) for length in table.shape[:2])
    return jnp.einsum("yh,xw,hwd->yxd", rows, columns, table, precision="highest")


def _weights(length: int, wanted: int) -> np.ndarray:
    """float64[wanted, length]: what every new point takes of every old one (Keys 1981); the edge repeats outwards."""
    place = (np.arange(wanted) + 0.5) * length / wanted - 0.5
    before = np.floor(place)
    weights = np.zeros((wanted, length))
    for tap in range(-1, 3):
        source = np.clip(before + tap, 0, length - 1).astype(int)
        np.add.at(weights, (np.arange(wanted), source), _kernel(np.abs(place - before - tap)))
    return weights


def _kernel(distance: np.ndarray) -> np.ndarray:
    a, d = SHARPNESS, distance
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, far)
