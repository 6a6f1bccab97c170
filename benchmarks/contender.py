"""What a contender of the training-step benchmark has to offer."""

from typing import Protocol


class Contender(Protocol):
    """One way to train on the same pairs, with its data already in memory."""

    def step(self) -> float:
        """One full update: forward, backward, AdamW. Returns the loss, once everything is finished."""

    def probe(self) -> tuple[float, float]:
        """Loss and global norm of the gradient at the present weights, without an update."""
