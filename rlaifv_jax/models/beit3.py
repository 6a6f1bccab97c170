"""The BEiT-3 encoder (arXiv 2208.10442), as Muffin uses it: learnt queries, in the place of words, read the image."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, parameter, run, stack
from rlaifv_jax.models.vit import Style, VitConfig, VitLayer, embed_patches, lead_with, mix
from rlaifv_jax.parallel import constrain

FIRST_POSITION = 2  # row of the first token in a table of positions; the two before it are unused, as in fairseq


@dataclass(frozen=True)
class Beit3Config(VitConfig):
    """Sizes of an encoder. queries: learnt tokens behind the image. query_rows: of their table of positions."""

    queries: int
    query_rows: int

    @property
    def still_tokens(self) -> int:
        """Those of the image."""
        return self.patches + 1

    @property
    def tokens(self) -> int:
        return self.still_tokens + self.queries


def gelu(x: jax.Array) -> jax.Array:
    """Exact, and in float32 whatever comes in."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=False).astype(x.dtype)


STYLE = Style(gelu, norm_first=True, key_bias=True, inner_norms=True)


class Beit3Layer(nnx.Module):
    """One attention among all tokens; every matrix and norm twice, once for the image and once for the queries."""

    def __init__(self, config: Beit3Config, *, rngs: nnx.Rngs):
        self.config = config
        self.image = VitLayer(config, STYLE, rngs=rngs)
        self.queries = VitLayer(config, STYLE, rngs=rngs)

    def __call__(self, x: jax.Array, compute: Compute) -> jax.Array:
        """[N, 1 + P + Q, D] → the same."""
        experts = (self.image, self.queries)
        read = [expert.heads(expert.attention_norm(part)) for expert, part in zip(experts, self._cut(x), strict=True)]
        query, key, value = (_joined(*parts) for parts in zip(*read, strict=True))
        mixed = mix(query, key, value, compute)
        x = x + _joined(*(expert.collect(part) for expert, part in zip(experts, self._cut(mixed), strict=True)))
        x = x + _joined(
            *(expert.mlp(expert.mlp_norm(part)) for expert, part in zip(experts, self._cut(x), strict=True))
        )
        return constrain(x, "batch", None, None)

    def _cut(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Along the tokens: those of the image, and the queries."""
        split = self.config.still_tokens
        return x[:, :split], x[:, split:]


def _joined(image: jax.Array, queries: jax.Array) -> jax.Array:
    return jnp.concatenate([image, queries], axis=1)


class ImageTokens(nnx.Module):
    """What becomes of pixels before the layers. `norm` stands behind them, on features that nobody reads: it is never
    computed, and kept so that a checkpoint round-trips."""

    def __init__(self, config: Beit3Config, *, rngs: nnx.Rngs):
        d, p = config.width, config.patch_size
        self.patch = parameter(rngs, (p, p, 3, d), (None, None, None, "embed"))
        self.patch_bias = nnx.Param(jnp.zeros(d), axes=("embed",))
        self.class_token = parameter(rngs, (1, 1, d), (None, None, None))
        self.position = parameter(rngs, (FIRST_POSITION + config.still_tokens, d), (None, "embed"))
        self.norm = LayerNorm(d, config.norm_eps)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        """[N, height, width, 3] → [N, 1 + P, D]."""
        x = embed_patches(pixels, self.patch[...]) + self.patch_bias[...]
        return lead_with(self.class_token[0, 0], x) + self.position[FIRST_POSITION:]


class QueryTokens(nnx.Module):
    """The queries before the layers, [Q, D], and the norm behind them."""

    def __init__(self, config: Beit3Config, *, rngs: nnx.Rngs):
        d = config.width
        self.query = parameter(rngs, (config.queries, d), (None, "embed"))
        self.position = parameter(rngs, (config.query_rows, d), (None, "embed"))
        self.norm = LayerNorm(d, config.norm_eps)

    def __call__(self) -> jax.Array:
        return self.query[...] + self.position[FIRST_POSITION:][: self.query.shape[0]]


class Beit3(nnx.Module):
    def __init__(self, config: Beit3Config, *, rngs: nnx.Rngs):
        self.image = ImageTokens(config, rngs=rngs)
        self.queries = QueryTokens(config, rngs=rngs)
        self.layers = stack(lambda r: Beit3Layer(config, rngs=r), config.layers, rngs)

    def __call__(self, pixels: jax.Array, compute: Compute) -> jax.Array:
        """Normalised pixels [N, height, width, 3] → what the queries have read, [N, Q, D].

        Equals the last Q positions of torchscale's `BEiT3(...).encoder` for image tokens and queries, split between
        them.
        """
        image, queries = self.image(pixels), self.queries()
        x = _joined(image, jnp.broadcast_to(queries, (image.shape[0], *queries.shape)))
        x = run(self.layers, constrain(x, "batch", None, None), lambda layer, h: layer(h, compute), compute)
        return self.queries.norm(x[:, image.shape[1] :])
