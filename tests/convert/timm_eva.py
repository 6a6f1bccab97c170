"""timm's EVA tower, imported without torchvision: timm wants it for pictures, and only its model is wanted here.

(PyPI has torchvision for CUDA builds of PyTorch alone.)
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

from torch import nn


class _Names(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _StandIn(ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _import() -> Any:
    finder = _Finder()
    sys.meta_path.append(finder)  # behind those that find a real one
    try:
        from timm.models import eva
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]  # nobody else shall take it for the real one
    return eva


class Through(nn.Module):
    """The last layer as the original has it: one that does nothing."""

    def forward(self, x: Any, **_: Any) -> Any:
        return x


def make_eva(layers: int, **sizes: Any) -> nn.Module:
    """A tower of so many layers and one more that does nothing."""
    tower: nn.Module = _import().Eva(
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
