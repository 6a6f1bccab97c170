"""A model ready to speak: opened, its weights on this host's devices, its prompts understood."""

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Params, unstack
from rlaifv_jax.models.hf_config import Json, read_json
from rlaifv_jax.sampling.engine import Engine
from rlaifv_jax.sampling.prompt import Prompter
from rlaifv_jax.sampling.settings import Sampling

DTYPES = ("float32", "bfloat16")
CONTEXT = 2048  # positions where config.json says nothing, as transformers' LlamaConfig


@dataclass(frozen=True)
class Speaker:
    """model: as convert.load opens it. params: unstacked, on `mesh`. ends: ids that end an answer. context: positions
    that the model was made for. defaults: the checkpoint's generation_config.json."""

    model: Any
    params: Params
    mesh: Mesh
    prompter: Prompter
    ends: tuple[int, ...]
    context: int
    defaults: Json

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prompter.tokenizer

    def engine(self, settings: Sampling, **options: Any) -> Engine:
        """An engine over these weights; options as `Engine` takes them."""
        return Engine(self.model, self.params, self.mesh, self.tokenizer, self.ends, settings, **options)


def load_speaker(
    path: Any,
    *,
    vision_path: Any = None,
    dtype: str = "",
    tensor: int = 0,
    template: str | None = None,
    pad: bool = True,
) -> Speaker:
    """Open a model (whatever convert.load.open_model takes) and load its weights onto the devices of this process.

    Args:
      dtype: to compute in; '': bfloat16, on CPUs float32.
      tensor: devices that share one copy of the weights; 0: all accelerators, as far as its heads divide.
      template, pad: see `Prompter`.

    Raises:
      UserError: what is wrong, in one line.
    """
    from convert.load import open_model

    model = open_model(path, vision_path)
    devices = jax.local_devices()
    mesh = _mesh(devices, tensor, model.config.decoder.kv_heads)
    dtype = dtype or ("float32" if devices[0].platform == "cpu" else "bfloat16")
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; choose from {', '.join(DTYPES)}")
    prompter = Prompter(model, template, pad)
    file = model.directory / "generation_config.json"
    defaults = read_json(file) if file.exists() else {}
    named = defaults.get("eos_token_id", ())
    ends = {prompter.tokenizer.eos_id, *(named if isinstance(named, list | tuple) else [named])} - {None}
    text = model.raw_config.get("text_config") or model.raw_config
    params = unstack(model.load(mesh, lambda path: jax.numpy.dtype(dtype)))
    context = int(text.get("max_position_embeddings") or CONTEXT)
    return Speaker(model, params, mesh, prompter, tuple(sorted(ends)), context, defaults)


def _mesh(devices: list[Any], tensor: int, heads: int) -> Mesh:
    """Weights and heads over `tensor` devices, prompts over the rest."""
    if not tensor:
        tensor = 1 if devices[0].platform == "cpu" else math.gcd(len(devices), heads)
    return parallel.make_mesh(-1, 1, tensor, devices)
