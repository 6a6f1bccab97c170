"""The one batch of the project: rows of shared prefixes with branches attached.

    row:      [ prefix: system · image · question ][ chosen ][ rejected ]   padding
    segment:    1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1   1 1 1 1   1 1 1 1 1     0
    branch:     0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0   1 1 1 1   2 2 2 2 2     0
    position:   0 1 2 …                       P-1   P …       P …           0

A query attends to a key when both lie in the same segment, the key is not later in the row, and the key
belongs to the prefix (branch 0) or to the query's own branch. So each branch sees what it would see in a
row of its own, and the image and the question are computed once.

A named tuple of NumPy (or JAX) arrays: a pytree for JAX, and importable without it, which keeps data
workers light.
"""

from typing import Any, NamedTuple

Array = Any

IMAGE_TOKEN = -200  # stands for an image, or a part of it, in a token list, before it is spread over its patches


class Batch(NamedTuple):
    """Rows ready for the model. Leading axes may be `[B]` or `[A, B]` (A micro-steps of an optimizer step).

    Letters: B rows, T tokens in a row, I tiles in a row, R targets in a row, S pairs (segments) in a row.
    """

    tokens: Array  # int32[B, T]   token ids; 0 at images and padding
    positions: Array  # int32[B, T]   rotary positions; every branch restarts where its prefix ended
    segments: Array  # int32[B, T]   1…S, 0 for padding
    branches: Array  # int32[B, T]   0 prefix, 1 chosen (or the only answer), 2 rejected
    patches: Array  # int32[B, T]   which of the I·P features of the row's tiles stands here, -1 text, NEWLINE: tiles.py
    images: Array  # uint8[B, I, …, 3]   tiles of pictures, height and width in most families; not yet normalised
    grids: Array  # int32[B, I, 2]   rows and columns of patches in each tile, where these differ; 0 for no tile
    sources: Array  # int32[B, R]   row position whose hidden state predicts the target
    targets: Array  # int32[B, R]   token to predict
    weights: Array  # float32[B, R]  weight of the target: 1, another for changed tokens in dense DPO, 0 for padding
    owners: Array  # int32[B, R]   2·(segment-1) + (branch-1): which answer of the row the target belongs to
    reference: Array  # float32[B, R]  log-prob of the target under the reference model, 0 where not known
    pairs: Array  # float32[B, S]  1 where the row's segment holds a pair, 0 where it is empty

    @property
    def tiles(self) -> tuple[Array, Array]:
        """What a tower needs: images and grids."""
        return self.images, self.grids
