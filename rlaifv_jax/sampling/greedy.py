"""Greedy decoding in a hundred lines, for evaluating small models; the sampling engine will take its place.

There is no key/value cache: every pass runs the whole row again. To make up for it a pass does not settle
one token but checks a draft of the whole answer (Jacobi decoding, arXiv 2305.10427): the most likely token at
every place becomes the next draft, until a pass changes nothing. The n-th pass settles at least the n-th
token, so the result is that of decoding token by token. The first draft is the longest answer of the batch
before: where answers are alike, as captions are, a pass settles several tokens.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from rlaifv_jax.data import images as pixels
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoded, Encoder
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.templates import Turn, get_template, render_prompt
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer
from rlaifv_jax.models.blueprint import Blueprint, Params
from rlaifv_jax.models.layers import PLAIN

ROUND = 32  # row lengths are multiples of it, so that few shapes are compiled


class Model(Protocol):
    """What is needed of an opened checkpoint (convert.load.StoredModel)."""

    @property
    def config(self) -> Any: ...
    @property
    def blueprint(self) -> Blueprint: ...
    @property
    def directory(self) -> Path: ...  # of the tokenizer
    @property
    def template(self) -> str | None: ...


def greedy(
    model: Model,
    params: Params,
    questions: Sequence[str],
    pictures: Sequence[Image.Image],
    *,
    max_new_tokens: int,
    batch: int = 32,
    pad: bool = True,
    template: str | None = None,
) -> list[str]:
    """The most likely continuation, token by token, of every question about its RGB picture.

    Args:
      params: the weights, in the precision to compute in.
      max_new_tokens: an answer that has not ended by then is cut.
      batch: rows decoded together; a batch is finished with its last row.
      pad: lay oblong pictures on a square instead of cropping them.
      template: conversation template; None: that of the checkpoint, else llava_v1.
    """
    rendering = get_template(template or model.template or "llava_v1")
    tokenizer, config = load_tokenizer(model.directory), model.config
    encoder = Encoder(tokenizer, rendering, config.image_tokens, max_length=2**31, objective="sft")
    items = []
    for question, picture in zip(questions, pictures, strict=True):
        ids = encoder.tokenize(render_prompt(rendering, [Turn("user", question)], image=True))
        prompt = Encoded(np.asarray(ids, np.int32), (), (), config.image_tokens)
        square = pixels.pad_to_square(picture, config.image_mean) if pad else picture
        items.append(Item(prompt, pixels.center_crop(square, config.image_size)))
    longest = max((item.encoded.prefix_length for item in items), default=0) + max_new_tokens
    shape = RowShape(-(-longest // ROUND) * ROUND, 0, config.image_size, config.image_tokens)
    answers: list[str] = []
    draft = np.full(max_new_tokens, tokenizer.eos_id, np.int32)
    for first in range(0, len(items), batch):
        part = items[first : first + batch]
        full = part + part[-1:] * (min(batch, len(items)) - len(part))  # one compiled batch size
        starts = np.array([item.encoded.prefix_length for item in full])
        rows = build_rows([[item] for item in full], shape)
        tokens = np.asarray(decode(model.blueprint, params, rows, starts, draft, tokenizer.eos_id))
        answers += [_text(tokenizer, ids) for ids in tokens[: len(part)]]
        draft = tokens[np.argmax((tokens != tokenizer.eos_id).sum(axis=1))]
    return answers


def decode(
    blueprint: Blueprint, params: Params, rows: Batch, starts: np.ndarray, draft: np.ndarray, eos: int
) -> jax.Array:
    """Rows with prompts of `starts` int[B] positions → answers int32[B, N], `eos` from their end on.

    `draft` int32[N] is a guess at any of the answers; it decides how long this takes, not what comes out.
    """
    length = rows.tokens.shape[1]
    everywhere = np.ones_like(rows.tokens)  # plain causal rows; what stands behind an answer is seen by none
    rows = rows._replace(positions=np.arange(length, dtype=np.int32) * everywhere, segments=everywhere)
    guess = np.broadcast_to(draft, (len(starts), len(draft)))
    return _passes(params, rows, np.asarray(starts, np.int32), guess, graph=blueprint.graph, eos=eos)


@partial(jax.jit, static_argnames=("graph", "eos"))
def _passes(params: Params, rows: Batch, starts: jax.Array, draft: jax.Array, *, graph: Any, eos: int) -> jax.Array:
    model = nnx.merge(graph, params)
    features = model.image_features(rows.images[:, 0], PLAIN)  # [B, P, D], once for all passes
    head = model.decoder.head.kernel[...]  # [D, V]
    new = draft.shape[1]
    places = starts[:, None] + jnp.arange(new)  # [B, N], where the answers stand
    lines = jnp.arange(len(starts))[:, None]

    def check(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        draft, _, passes = state
        tokens = rows.tokens.at[lines, places].set(draft)
        hidden = model.decode(features, rows._replace(tokens=tokens), PLAIN)  # [B, T, D]
        before = hidden[lines, places - 1]  # [B, N, D]
        logits = jnp.einsum("bnd,dv->bnv", before, head, preferred_element_type=jnp.float32)
        likely = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        ends = jnp.cumsum(likely == eos, axis=1) > 0
        likely = jnp.where(ends, eos, likely)
        return likely, jnp.any(likely != draft), passes + 1

    first = (draft, jnp.array(True), jnp.array(0))
    return jax.lax.while_loop(lambda state: state[1] & (state[2] < new), check, first)[0]


def _text(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    ended = np.flatnonzero(ids == tokenizer.eos_id)
    return tokenizer.decode(ids[: ended[0] if len(ended) else None].tolist()).strip()
