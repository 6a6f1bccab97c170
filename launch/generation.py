"""Generation for chips that are not there, those of one host: prompts with an image, candidates like those of RLAIF-V,
no weights. On several hosts each runs an engine of its own.

How many tokens a second there can be at most. A step of decoding takes at least

    t_step   = max(bytes / HBM bandwidth, operations / peak) + transfers that nothing overlaps / interconnect
    bytes    = the decoder's weights + all prefixes + the suffixes, which are half written on average, of one chip

and a prompt at least t_prompt, its operations at peak. n answers of a tokens to a prompt of which G with N branches
each are worked on at once:

    tokens/s ≤ n·a / (t_prompt + n·a · t_step / (G·N))
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from launch import jobs, report
from launch.attempt import attempt
from launch.chips import Chip
from rlaifv_jax import flops, parallel, published
from rlaifv_jax.data.rows import RowShape, empty_batch
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.models.blueprint import Params, layer_sharding
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.sampling import decode
from rlaifv_jax.sampling.cache import CacheShape, suffix_columns
from rlaifv_jax.sampling.capacity import bytes_on_device, prompts_in, slot_length
from rlaifv_jax.sampling.decode import Program, State
from rlaifv_jax.sampling.load import local_mesh
from rlaifv_jax.sampling.settings import TOP_K, Rules, Sampling

STEPS = ("prefill", "decode")
PROMPT_TEXT = 60  # tokens beside the image
DTYPE = "bfloat16"
HINTS = (
    "fewer prompts at once: --rows",
    "shorter or fewer answers at once: --new_tokens, --branches",
    "--cache=int8",
    "more chips: weights and heads are spread over mesh.tensor",
)


@dataclass(frozen=True)
class Asked:
    """samples: of a prompt, `branches` of them written at a time. new_tokens: most of an answer. answer: tokens of one
    on average. cache: its dtype."""

    samples: int
    branches: int
    new_tokens: int
    answer: int
    cache: str


def measure(config: Any, name: str, devices: Any, chip: Chip, asked: Asked, prompts: int, step: str) -> dict[str, Any]:
    """Compile one of STEPS; the object that --json prints.

    prompts: worked on at once, for each part of the mesh that has prompts of its own; 0: as many as the engine takes.
    """
    model, mesh = place_model(config, devices)
    params = abstract_params(model, mesh)
    program = make_program(config, model, mesh, asked, prompts, chip.hbm_bytes - report.shard_bytes(params))
    cache = program.cache
    found: dict[str, Any] = {
        "topology": name,
        "step": step,
        "chips": devices.size,
        "mesh": " x ".join(str(size) for size in mesh.shape.values()),
        "prompts": cache.prompts,
        "branches": cache.branches,
        "prefix": cache.prefix,
        "columns": cache.suffix,
        "cache": cache.dtype,
    }
    with jax.set_mesh(mesh):
        state = abstract_state(program, mesh)
        traced = trace(step, params, state, program, mesh, model.config)
        compiled, outcome = attempt(lambda: traced.lower().compile(), chip, HINTS)
    found |= outcome
    if compiled is None:
        return found
    held = report.memory(compiled, chip, {"weights": params, "cache": state.cache})
    needed = _prompt_flops(model.config, cache) * parallel.rows_divisor(mesh)
    if step == "decode":
        needed = _token_flops(model.config, cache, asked) * cache.prompts * cache.branches
    executed = dot_flops(traced.jaxpr, while_trips=1)
    found |= report.analyse(compiled, chip, held, needed / devices.size, executed / devices.size)
    if step == "decode":
        found |= _bound(model.config, params, state, cache, asked, chip, devices.size, found)
    return found


def prompts_that_fit(config: Any, devices: Any, chip: Chip, asked: Asked) -> int:
    """Prompts for each part of the mesh that has its own, if nothing but weights and cache took memory; at least 1."""
    model, mesh = place_model(config, devices)
    params = abstract_params(model, mesh)
    needed = bytes_on_device(model.config.decoder, _cache_shape(model, asked), mesh)
    return max(int((chip.hbm_bytes - report.shard_bytes(params)) / needed), 1)


def place_model(config: Any, devices: Any) -> tuple[jobs.Model, Mesh]:
    """The model of a config, and a mesh as `Speaker` makes it."""
    model = jobs.find_model(config.model.path, config.model.vision_path)
    tensor = config.mesh.tensor if config.mesh.tensor > 1 else 0
    mesh = local_mesh(devices.flatten().tolist(), tensor, model.config.decoder.kv_heads)
    return model, mesh


def _cache_shape(model: jobs.Model, asked: Asked) -> CacheShape:
    """Without a number of prompts."""
    picture = published.picture(model.config)
    prefix = slot_length((picture.positions if picture else 0) + PROMPT_TEXT)
    return CacheShape(0, asked.branches, False, prefix, suffix_columns(asked.new_tokens), asked.cache)


def make_program(config: Any, model: jobs.Model, mesh: Mesh, asked: Asked, prompts: int, free: float) -> Program:
    """free: bytes of a chip that the weights leave."""
    cache = _cache_shape(model, asked)
    unit = parallel.rows_divisor(mesh)
    prompts = prompts * unit or prompts_in(model.config.decoder, cache, mesh, free) or unit
    backend = default_backend(mesh.devices.flat[0].platform)
    return Program(
        graph=model.blueprint.graph,
        decoder=model.config.decoder,
        compute=Compute(backend, backend, "none", config.train.vocab_block),
        rules=Rules(Sampling(temperature=0.7, top_k=TOP_K, max_new_tokens=asked.new_tokens), ends=(2,)),
        samples=asked.samples,
        begin=1,
        cache=replace(cache, prompts=prompts),
    )


def stacked_params(model: jobs.Model, mesh: Mesh) -> Params:
    """Weights in the precision to compute in."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, DTYPE), model.blueprint.shapes)
    return parallel.placed(shapes, parallel.shardings(model.blueprint.axes, shapes, mesh))


def abstract_params(model: jobs.Model, mesh: Mesh) -> Params:
    """The same with unstacked layers, as the engine holds them."""
    params = stacked_params(model, mesh)
    decoder = params["decoder"]
    layer = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=layer_sharding(x.sharding)), decoder["layers"]
    )
    return params | {"decoder": decoder | {"layers": [layer] * model.config.decoder.layers}}


def abstract_state(program: Program, mesh: Mesh) -> State:
    """Shapes and shardings of the state that the two functions hand on."""
    shapes = jax.eval_shape(partial(decode.new_state, program=program))
    return parallel.placed(shapes, decode.state_shardings(program, mesh))


def trace(step: str, params: Params, state: State, program: Program, mesh: Mesh, config: Any) -> Any:
    """One of STEPS as a jaxpr that can be lowered."""
    everywhere, rows = parallel.replicated(mesh).spec, parallel.rows_sharding(mesh).spec
    functions = decode.jitted(program, mesh)
    if step == "decode":
        stopped = _placed(state.search.token.shape, bool, everywhere, mesh)
        number = _placed((), jnp.int32, everywhere, mesh)
        return functions.advance.trace(params, state, stopped, number, number)
    count = parallel.rows_divisor(mesh)
    picture = published.picture(config)
    shape = RowShape(program.cache.prefix, 0, config.tile, images=picture.tiles if picture else 0)
    batch = jax.tree.map(lambda x: _placed(x.shape, x.dtype, rows, mesh), empty_batch(count, shape))
    slots = _placed((count,), jnp.int32, everywhere, mesh)
    keys = _placed((count, 2), jnp.uint32, rows, mesh)
    return functions.admit.trace(params, state, batch, slots, keys)


def _placed(shape: tuple[int, ...], dtype: Any, spec: P, mesh: Mesh) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def _prompt_flops(config: Any, cache: CacheShape) -> float:
    picture = published.picture(config)
    tower = picture.tiles * flops.image_flops(config) if picture else 0
    return float(flops.decoder_flops(config.decoder, [cache.prefix], [[0]], [1])[0]) + tower


def _token_flops(config: Any, cache: CacheShape, asked: Asked) -> float:
    """Of one new token, in the middle of an average answer."""
    answer, nothing = (
        float(flops.decoder_flops(config.decoder, [cache.prefix], [[tokens]], [tokens])[0])
        for tokens in (asked.answer, 0)
    )
    return (answer - nothing) / asked.answer


def _bound(
    config: Any,
    params: Params,
    state: State,
    cache: CacheShape,
    asked: Asked,
    chip: Chip,
    chips: int,
    found: dict[str, Any],
) -> dict[str, Any]:
    """The page's formula."""
    decoder = params["decoder"]
    weights = report.shard_bytes([decoder["layers"], decoder["norm"], decoder["head"]])
    written = asked.answer / 2 / cache.suffix
    read = weights + report.shard_bytes(state.cache.prefix) + written * report.shard_bytes(state.cache.suffix)
    slots = cache.prompts * cache.branches
    computed = _token_flops(config, cache, asked) * slots / chips
    step = max(read / chip.hbm_bandwidth, computed / chip.peak_flops) + found["seconds_by_cause"]["sync_ici"]
    prompt = _prompt_flops(config, cache) / chips / chip.peak_flops
    tokens = asked.samples * asked.answer
    return {
        "step_seconds_at_least": step,
        "step_bytes": read,
        "prompt_seconds_at_least": prompt,
        "decode_tokens_per_second_bound": slots / step,
        "tokens_per_second_bound": tokens / (prompt + tokens * step / slots),
    }
