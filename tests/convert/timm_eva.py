"""timm's EVA tower, imported without torchvision: timm wants it for pictures, and only its model is wanted here.

(PyPI has torchvision for CUDA builds of PyTorch alone.)
"""

from typing import Any

from torch import nn

from tests.convert.stand_ins import stand_ins


class Through(nn.Module):
    """The last layer as the original has it: one that does nothing."""

    def forward(self, x: Any, **_: Any) -> Any:
        return x


def make_eva(layers: int, **sizes: Any) -> nn.Module:
    """A tower of so many layers and one more that does nothing."""
    with stand_ins("torchvision"):
        from timm.models import eva
    tower: nn.Module = eva.Eva(
        depth=layers + 1,
        use_post_norm=True,
        global_pool="token",
        num_classes=0,
        dynamic_img_size=True,
        dynamic_img_pad=True,
        **sizes,
    )
    tower.blocks[-1] = Through()  # type: ignore[index]
    return tower
