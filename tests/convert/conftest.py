"""Tiny LLaVAs by transformers, and their tensors under any of the five sets of names."""

import os

if "device_count" not in os.environ.get("XLA_FLAGS", ""):  # before the first import of jax
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import pytest

from tests.convert.llavas import TinyLlava


@pytest.fixture(scope="session")
def tiny_llava() -> TinyLlava:
    """Multi-head attention, vocabulary 99, no tokenizer."""
    return TinyLlava(kv_heads=4)


@pytest.fixture(scope="session")
def grouped_llava() -> TinyLlava:
    """Two key/value heads for four query heads."""
    return TinyLlava(kv_heads=2)
