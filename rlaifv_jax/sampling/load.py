"""A model ready to speak: opened, its weights on this host's devices, its prompts understood."""

import math
import os
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.tables import HUB_ID
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Params, unstack
from rlaifv_jax.models.hf_config import Section, read_json
from rlaifv_jax.sampling.capacity import LENGTHS
from rlaifv_jax.sampling.engine import Engine
from rlaifv_jax.sampling.prompt import Prompter
from rlaifv_jax.sampling.settings import DTYPES, Sampling

CONTEXT = 2048  # positions where config.json says nothing, as transformers' LlamaConfig


class Speaker:
    """An opened model; its weights are loaded onto the devices of this process when they are first needed.

    Args:
      path: as convert.load.open_model takes it.
      vision_path: the same.
      dtype: to compute in; '': bfloat16, on CPUs float32.
      tensor: devices that share one copy of the weights; 0: all accelerators, as far as its heads divide.
      template: see `Prompter`.
      aspect_ratio: see `Prompter`.
      key: the setting that path came from, for messages.

    Attributes:
      ends: ids that end an answer.
      context: positions that the model was made for.
      defaults: the checkpoint's generation_config.json.

    Raises:
      UserError: what is wrong, in one line.
    """

    def __init__(
        self,
        path: Any,
        *,
        vision_path: Any = None,
        dtype: str = "",
        tensor: int = 0,
        template: str | None = None,
        aspect_ratio: str = "",
        key: str = "model",
    ):
        from convert.adapters import apart
        from convert.load import open_model

        self.model = apart(open_model(path, vision_path, key))
        devices = jax.local_devices()
        self.dtype = dtype or ("float32" if devices[0].platform == "cpu" else "bfloat16")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
        self.mesh = local_mesh(devices, tensor, self.model.config.decoder.kv_heads)
        self.prompter = Prompter(self.model, template, aspect_ratio)
        self.tokenizer = self.prompter.tokenizer
        file = self.model.directory / "generation_config.json"
        self.defaults = read_json(file) if file.exists() else {}
        named = self.defaults.get("eos_token_id", ())
        ends = {self.tokenizer.eos_id, *(named if isinstance(named, list) else [named]), *self.tokenizer.turn_ends}
        self.ends = tuple(sorted(token for token in ends if isinstance(token, int)))
        top = Section(self.model.raw_config, f"{self.model.directory / 'config.json'}: ")
        text = top.below("text_config")
        self.context = (text if text.values else top).count("max_position_embeddings", CONTEXT)

    @cached_property
    def params(self) -> Params:
        """Unstacked, on `mesh`."""
        return unstack(self.load_stacked())

    def load_stacked(self) -> Params:
        """A copy of the weights on `mesh` with their layers stacked, for forward passes without a cache."""
        return self.model.load(self.mesh, lambda path: jnp.dtype(self.dtype))

    def engine(self, settings: Sampling, **options: Any) -> Engine:
        """An engine over these weights; options as `Engine` takes them."""
        given = {"template": self.prompter.template, **options}
        return Engine(self.model, self.params, self.mesh, self.tokenizer, self.ends, settings, **given)

    def check_settings(self, settings: Sampling) -> None:
        """Raises `UserError` for answers that the model has no room for, whatever the prompt."""
        if settings.max_new_tokens >= self.context:
            raise UserError(
                f"max_new_tokens is {settings.max_new_tokens}, and the model was made for {self.context} positions, "
                "prompt included; ask for fewer"
            )

    def check_length(self, positions: int, new_tokens: int) -> None:
        """Raises `BadRow` for a prompt after which there is no room for the answer."""
        most = min(self.context - new_tokens, LENGTHS[-1])
        if positions > most:
            raise BadRow(
                "prompt_too_long",
                f"it takes {positions} positions, at most {most} leave room for {new_tokens} new tokens",
            )


def check_model(path: Any, key: str, *, sees: bool = False) -> None:
    """See that a model that is here can be opened, and sees where that is needed; a hub id is taken on trust. Nothing
    is loaded. Raises `UserError`."""
    from convert.load import open_model

    if not path or (not os.path.exists(path) and HUB_ID.fullmatch(str(path))):
        return
    if not open_model(path, key=key).family.sees and sees:
        raise UserError(f"{key}: {path} is a language model, and has to see pictures here")


def local_mesh(devices: list[Any], tensor: int, heads: int) -> Mesh:
    """Weights and heads over `tensor` devices, prompts over the rest."""
    if type(tensor) is not int or tensor < 0 or (tensor and len(devices) % tensor):
        raise UserError(
            f"tensor is {tensor}, which does not divide the {len(devices)} devices of this process; "
            "choose a divisor, or 0"
        )
    if not tensor:
        tensor = 1 if devices[0].platform == "cpu" else math.gcd(len(devices), heads)
    return parallel.make_mesh(-1, 1, tensor, devices)
