"""The numbers of training that all contenders share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """DPO with AdamW and half a cosine over `steps` updates: no warm-up, no clipping, no decay of norms and biases.

    The learning rate is large for DPO, so that a test of a few updates sees them.
    """

    beta: float = 0.1
    lr: float = 1e-4
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    steps: int = 1000
