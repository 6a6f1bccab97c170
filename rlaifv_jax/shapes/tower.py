"""What stands in for CLIP's pretraining: image tower and projector learn to tell what is in each cell.

Every patch of the small world's tower is one cell, so a linear probe on its feature says which size, colour
and shape is there, or that nothing is. The probe is thrown away. Without this stage the captioner would spend
most of its time learning to see.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlaifv_jax.data.tiles import squares
from rlaifv_jax.models.blueprint import Blueprint, Params
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.shapes.scene import CELLS, COLORS, SHAPES, SIZES, Scene, render
from rlaifv_jax.shapes.splits import scene_at

ANSWERS = (
    len(SIZES) + 1,
    len(COLORS) + 1,
    len(SHAPES) + 1,
)  # classes of the three questions; 0 is "nothing here"


def teach_to_see(
    blueprint: Blueprint, params: Params, seed: int, *, steps: int = 300, batch: int = 64, lr: float = 3e-3
) -> tuple[Params, float]:
    """Train everything but the decoder; returns all parameters and the accuracy over the last 20 batches.

    A cell counts as right when its size, colour and shape are. Scenes come from the split of the base.
    """
    width = blueprint.shapes["projector"]["second"]["bias"].shape[0]
    seeing = {name: part for name, part in params.items() if name != "decoder"}
    weights: Params = {"model": seeing, "probe": jnp.zeros((width, sum(ANSWERS)))}

    def loss(weights: Params, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = blueprint.module({**weights["model"], "decoder": params["decoder"]})
        scores = model.image_features(squares(images), PLAIN) @ weights["probe"]  # [B, 9, classes]
        parts = jnp.split(scores, np.cumsum(ANSWERS)[:-1], axis=-1)
        each = [
            optax.softmax_cross_entropy_with_integer_labels(part, labels[..., question])
            for question, part in enumerate(parts)
        ]
        right = [part.argmax(-1) == labels[..., question] for question, part in enumerate(parts)]
        return sum(each, start=jnp.zeros(())).mean(), jnp.all(jnp.stack(right), axis=0).mean()

    weights, accuracies = fit(loss, weights, seed, steps=steps, batch=batch, lr=lr)
    learnt = {**weights["model"], "decoder": params["decoder"]}
    features = blueprint.module(learnt).image_features(squares(draw(seed, steps - 1, batch)[0]), PLAIN)
    # The probe has drawn the features out; beside words they should be of a word's size.
    loudness = jnp.sqrt(jnp.mean(features**2))
    second = jax.tree.map(lambda leaf: leaf / loudness, learnt["projector"]["second"])
    learnt["projector"] = {**learnt["projector"], "second": second}
    return learnt, float(np.mean(accuracies[-20:]))


def fit(
    loss: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    weights: Params,
    seed: int,
    *,
    steps: int,
    batch: int,
    lr: float,
) -> tuple[Params, list[jax.Array]]:
    """AdamW on `loss(weights, images, labels)`, (scalar, what is to be told of every step), see `draw`; returns weights
    and what was told."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.warmup_cosine_decay_schedule(0, lr, steps // 10, steps), weight_decay=0.01),
    )

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(weights: Params, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        gradients, found = jax.grad(loss, has_aux=True)(weights, images, labels)
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state, found

    weights = jax.tree.map(jnp.copy, weights)
    state = optimizer.init(weights)
    told = []
    for step in range(steps):
        weights, state, found = update(weights, state, *draw(seed, step, batch))
        told.append(found)
    return weights, told


def draw(seed: int, step: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8[batch, 48, 48, 3] and the labels of their cells int32[batch, 9, 3], other ones in every step."""
    drawn = [scene_at(seed, "base", step * batch + k) for k in range(batch)]
    images = np.stack([np.asarray(render(scene, rng)) for scene, rng in drawn])
    return images, np.stack([cell_labels(scene) for scene, _ in drawn])


def cell_labels(scene: Scene) -> np.ndarray:
    """int32[9, 3]: size, colour and shape in every cell, each counted from 1; 0 for nothing."""
    labels = np.zeros((CELLS, 3), np.int32)
    for thing in scene:
        values = (SIZES.index(thing.size), list(COLORS).index(thing.color), SHAPES.index(thing.shape))
        labels[thing.cell] = [value + 1 for value in values]
    return labels
