"""The formula against a count of every matrix product that the step really traces."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax import flops
from rlaifv_jax.data.rows import RowShape
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.models.blueprint import split_frozen
from rlaifv_jax.ops.layout import allowed
from rlaifv_jax.step import log_probs, logprob_step
from tests import tiny
from tests.ops.layouts import lay_out


def test_forward_formula_equals_the_traced_products():
    shape = RowShape(row_length=64, targets=32, tile=tiny.SHAPE.tile)
    batch = tiny.batch([[]], shape)
    traced = jax.make_jaxpr(lambda p, b: logprob_step(p, {}, b, tiny.step()))(tiny.params(), batch)
    decoder, vision = tiny.DECODER, tiny.VISION
    # One full row of 64 tokens, every (query, key) pair computed: the dense backend does not skip masked blocks.
    pairs = decoder.layers * 4 * decoder.heads * decoder.head_width
    expected = flops.decoder_flops(decoder, np.array([64]), np.zeros((1, 0)), np.array([32]))[0]
    expected += pairs * (64 * 64 - 64 * 65 / 2)
    expected += flops.tower_flops(vision) + 2 * 4 * (32 * 48 + 48 * 48)
    assert dot_flops(traced) == pytest.approx(expected, rel=1e-6)


def test_attention_counts_what_the_mask_allows():
    layout = lay_out([[(0, 12, (7, 9))]], 28)
    allowed_pairs = int(allowed(layout, None).sum())
    decoder = tiny.DECODER
    pair = decoder.layers * 4 * decoder.heads * decoder.head_width
    token = flops.decoder_flops(decoder, [1], [[0]], [0])[0] - pair  # matrices only
    head = 2 * decoder.width * decoder.vocab_size
    found = flops.decoder_flops(decoder, [12], [[7, 9]], [16])[0]
    assert found == 28 * token + 16 * head + pair * allowed_pairs


def test_training_formula_equals_the_traced_products():
    """Three times the forward pass; but logits are computed again, and nothing asks for the tower's gradient."""
    shape = RowShape(row_length=64, targets=32, tile=tiny.SHAPE.tile)
    batch = jax.tree.map(lambda leaf: leaf[0], tiny.batch([[]], shape))
    params, frozen = split_frozen(tiny.params(), tiny.FROZEN)
    step = replace(tiny.step(), compute=replace(tiny.COMPUTE, remat="none"))
    traced = jax.make_jaxpr(jax.grad(lambda p, b: jnp.sum(log_probs(p, frozen, b, step))))(params, batch)
    decoder, vision = tiny.DECODER, tiny.VISION
    dense = decoder.layers * 4 * decoder.heads * decoder.head_width * (64 * 64 - 64 * 65 / 2)
    expected = 3 * (flops.decoder_flops(decoder, [64], np.zeros((1, 0)), [32])[0] + dense)
    expected += 2 * 32 * decoder.width * decoder.vocab_size
    first, second = (2 * 4 * width * decoder.width for width in (vision.width, decoder.width))
    expected += flops.tower_flops(vision) + 2 * first + 3 * second
    assert dot_flops(traced) == pytest.approx(expected, rel=1e-6)


def test_published_size_and_sharing():
    """LLaVA-1.5-7B at the published mean lengths: 12.95 GFLOP a token, and what sharing the prefix saves."""
    from rlaifv_jax.models.decoder import DecoderConfig

    vicuna = DecoderConfig(32000, 4096, 11008, 32, 32, 32, 128, 1e4, 1e-5, None)
    token = flops.decoder_flops(vicuna, np.array([1]), np.zeros((1, 0)), np.array([0]))[0]
    assert token / 1e9 == pytest.approx(12.952, rel=1e-3)
    shared = flops.decoder_flops(vicuna, [636], [[75, 75]], [150])[0]
    separate = 2 * flops.decoder_flops(vicuna, [636], [[75]], [75])[0]
    assert shared / separate == pytest.approx(0.5543, abs=1e-4)


def test_unknown_hardware_has_no_mfu():
    assert flops.mfu(1e12, 1.0) is None
    assert jnp.asarray(1).device.platform == "cpu"
