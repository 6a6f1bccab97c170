import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

from rlaifv_jax.ops.norm import layer_norm, rms_norm
from rlaifv_jax.ops.rope import rotate

RNG = np.random.default_rng(0)


def test_rms_norm_equals_llama():
    x, scale = RNG.normal(size=(2, 5, 16)).astype(np.float32) * 1e-2, RNG.normal(size=16).astype(np.float32)
    torch_norm = LlamaRMSNorm(16, eps=1e-5)
    torch_norm.weight.data = torch.tensor(scale)
    expected = torch_norm(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(rms_norm(jnp.array(x), jnp.array(scale), 1e-5), expected, atol=1e-5)
    assert np.abs(rms_norm(jnp.array(x), jnp.array(scale), 1e-6) - expected).max() > 1e-3


def test_layer_norm_equals_torch():
    x = RNG.normal(size=(2, 5, 16)).astype(np.float32) * 1e-2
    scale, bias = RNG.normal(size=(2, 16)).astype(np.float32)
    expected = torch.nn.functional.layer_norm(
        torch.tensor(x), (16,), torch.tensor(scale), torch.tensor(bias), eps=1e-5
    ).numpy()
    np.testing.assert_allclose(layer_norm(jnp.array(x), scale, bias, 1e-5), expected, atol=1e-5)
    assert np.abs(layer_norm(jnp.array(x), scale, bias, 1e-12) - expected).max() > 1e-3


def test_rotation_equals_llama_at_any_position():
    config = LlamaConfig(
        hidden_size=32, num_attention_heads=2, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}
    )
    query = RNG.normal(size=(1, 7, 2, 16)).astype(np.float32)
    positions = np.array([[0, 1, 2, 1, 2, 900, 2047]])
    cos, sin = LlamaRotaryEmbedding(config)(torch.tensor(query), torch.tensor(positions))
    expected, _ = apply_rotary_pos_emb(
        torch.tensor(query).transpose(1, 2), torch.tensor(query).transpose(1, 2), cos, sin
    )
    ours = rotate(jnp.array(query), jnp.array(positions), 5e5)
    np.testing.assert_allclose(ours, expected.transpose(1, 2).numpy(), atol=2e-4)  # float32 cos at angle 2047
    np.testing.assert_allclose(ours[:, :5], expected.transpose(1, 2).numpy()[:, :5], atol=1e-6)
