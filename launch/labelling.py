"""Labelling for chips that are not there: all claims about pictures, as `rlaifv_jax.feedback score` reads them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from launch import report
from launch.attempt import attempt
from launch.chips import Chip
from launch.generation import place_model, stacked_params
from rlaifv_jax import flops, parallel, published
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import empty_batch
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.sampling import forward
from rlaifv_jax.sampling.calls import plan

OPENING, CLAIM = 30, 20  # tokens before the claims, image aside, and of a claim with its header
CLAIMS = 100  # about a picture: ten of each of ten answers
LONGEST_ROW = 8192
HINTS = ("fewer pictures at once: --rows", "more chips: weights and heads are spread over mesh.tensor")


def measure(config: Any, name: str, devices: Any, chip: Chip, rows: int) -> dict[str, Any]:
    """Compile one call; the object that --json prints.

    rows: pictures of a call, for each part of the mesh that has rows of its own; 0: as many as the stage takes.
    """
    model, mesh = place_model(config, devices)
    if not model.family.sees:
        raise UserError(f"--steps=score: {config.model.path} is a language model; a labeler has to see the picture")
    params = stacked_params(model, mesh)
    unit = parallel.rows_divisor(mesh)
    picture = published.picture(model.config)
    assert picture is not None
    prefix = np.array([*[IMAGE_TOKEN] * len(picture.places), *range(OPENING)], np.int32)
    claim = Answer(np.zeros(CLAIM, np.int32), np.zeros(CLAIM, bool))
    group = Encoded(prefix, (claim,) * CLAIMS, (), picture)
    call = plan([group], model.config.tile, unit, row_length=0, longest_row=LONGEST_ROW)[0]
    count = rows * unit or len(call.rows)
    found: dict[str, Any] = {
        "topology": name,
        "step": "score",
        "chips": devices.size,
        "mesh": " x ".join(str(size) for size in mesh.shape.values()),
        "rows": count,
        "row_length": call.shape.row_length,
        "claims": count * CLAIMS,
    }
    backend = default_backend(mesh.devices.flat[0].platform)
    compute = Compute(backend, backend, "none", config.train.vocab_block)
    place = parallel.rows_sharding(mesh)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), empty_batch(count, call.shape)
    )
    ids = jax.ShapeDtypeStruct((len(WORDS),), jnp.int32, sharding=parallel.replicated(mesh))
    with jax.set_mesh(mesh):
        traced = forward.functions(model.blueprint.graph, compute, mesh)[0].trace(params, batch, ids=ids)
        compiled, outcome = attempt(lambda: traced.lower().compile(), chip, HINTS)
    found |= outcome
    if compiled is None:
        return found
    held = report.memory(compiled, chip, {"weights": params})
    lengths = [group.prefix_length], [[CLAIM] * CLAIMS], [CLAIMS]
    needed = float(flops.decoder_flops(model.config.decoder, *lengths)[0])
    needed += picture.tiles * flops.image_flops(model.config)
    share = 1 / devices.size
    found |= report.analyse(compiled, chip, held, needed * count * share, dot_flops(traced.jaxpr) * share)
    found["claims_per_second_bound"] = count * CLAIMS / found["seconds_at_least"]
    return found
