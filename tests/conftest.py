"""Fixtures that several test packages share. Tests see eight devices, all of them this machine's CPU."""

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.fake_gcs import Cloud
    from tests.sampling.talker import Talker

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Read when JAX is first used. Most of the time of these tests is compilation, which level 0 halves.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0")

TEXT = """
    a an the of in on at to and is are there that this it picture image photo dog cat tree car red blue
    green yellow circle square triangle star large small left right top bottom middle what which how
    many see describe yes no please question answer child woman man street house table plate sky water
    grass standing holding next
"""
WORDS = TEXT.split()


def train_tokenizer(folder: Path, *, legacy: bool | None = True, vocab_size: int = 640, **options: Any) -> Path:
    """Train a SentencePiece model with LLaMA's settings and write it with the files a LLaMA directory has. options: of
    the trainer, instead of LLaMA's.

    Not legacy: "USER" becomes one piece and " USER" two, as in LLaMA's own vocabulary (the count of later
    rounds relies on it).
    """
    import sentencepiece

    from rlaifv_jax.data.templates import TEMPLATES

    chance = random.Random(0)
    lines = [template.system for template in TEMPLATES.values()] * 40
    for _ in range(1500):
        said = " ".join(chance.choices(WORDS, k=12))
        lines.append(f"USER: {said}? ASSISTANT: {said.capitalize()}, {chance.randint(0, 9999)}.")
        lines.append(f"USER: {said}")
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": vocab_size,
        "byte_fallback": True,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": legacy is not False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "tokenizer"), **settings | options
    )
    (folder / "tokenizer.vocab").unlink()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **names}
    if legacy is not None:
        settings["legacy"] = legacy
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    return folder


# A shell that starts the suite in its background has it ignore Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """What a module compiled is not kept: a process of the whole suite would come to hold 8 GB of it."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@pytest.fixture(scope="session")
def cloud() -> "Iterator[Cloud]":
    """A stand-in for Google Cloud Storage, for this process and those that it starts. Use names of your own."""
    from tests import fake_gcs

    with fake_gcs.serving(fake_gcs.Cloud()) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        yield cloud


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaMA-style tokenizer (legacy, 640 ids): `tokenizer.model` and its two JSON files."""
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def modern_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer with `legacy: false`."""
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer_modern"), legacy=False)


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> "Talker":
    """A tiny LLaVA that says something else about every picture."""
    from tests.sampling.talker import write_talker

    return write_talker(tmp_path_factory.mktemp("talker"))
