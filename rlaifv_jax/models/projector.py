"""From image features to the width of the language model."""

import jax
from flax import nnx

from rlaifv_jax.models.layers import Linear, parameter


class MlpProjector(nnx.Module):
    """LLaVA-1.5's `mlp2x_gelu` (arXiv 2310.03744): linear, exact GELU, linear."""

    def __init__(self, width_in: int, width_out: int, *, rngs: nnx.Rngs):
        self.first = Linear(width_in, width_out, (None, "embed"), bias=True, rngs=rngs)
        self.second = Linear(width_out, width_out, ("embed", None), bias=True, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """[N, P, D_vision] → [N, P, D]."""
        return self.second(jax.nn.gelu(self.first(features), approximate=False))


class NewlineProjector(MlpProjector):
    """LLaVA-NeXT's, which comes with the embedding that ends a line of a grid: `newline` [D]."""

    def __init__(self, width_in: int, width_out: int, *, rngs: nnx.Rngs):
        super().__init__(width_in, width_out, rngs=rngs)
        self.newline = parameter(rngs, (width_out,), (None,))
