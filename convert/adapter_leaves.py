"""Parameters with adapters: merged when they are read, or the two halves of the adapters by themselves."""

from dataclasses import dataclass

import numpy as np

from convert.decoder import LINEAR
from convert.leaves import Leaf
from convert.tensors import Index, LazyTensor


@dataclass(frozen=True)
class Factors:
    """Of one linear map: lora_A [r, in], lora_B [out, r], and what their product is multiplied by."""

    down: LazyTensor
    up: LazyTensor
    scale: float


@dataclass(frozen=True)
class MergedLeaf:
    """A parameter to whose layers adapters are added when they are read, in float32. dtype: that of the base, in which
    it is written: bfloat16 has no room for small changes of large weights."""

    base: Leaf
    factors: tuple[Factors | None, ...]  # by layer

    @property
    def dtype(self) -> np.dtype:
        return self.base.dtype

    def dtype_of(self, layer: int | None) -> np.dtype:
        return self.base.dtype_of(layer)

    def read(self, layer: int | None, index: Index = ()) -> np.ndarray:
        kept, factors = self.base.read(layer, index), self.factors[layer or 0]
        if factors is None:
            return kept
        rows, columns = index or (slice(None), slice(None))
        down = factors.down.read((slice(None), rows)).astype(np.float32)  # [r, in]
        up = factors.up.read((columns, slice(None))).astype(np.float32)  # [out, r]
        return kept.astype(np.float32) + factors.scale * (down.T @ up.T)


@dataclass(frozen=True)
class FactorLeaf:
    """One half of the adapters of a linear map, by layer."""

    tensors: tuple[LazyTensor, ...]

    @property
    def dtype(self) -> np.dtype:
        return self.tensors[0].dtype

    def dtype_of(self, layer: int | None) -> np.dtype:
        return self.tensors[layer or 0].dtype

    def read(self, layer: int | None, index: Index = ()) -> np.ndarray:
        if layer is None:
            return np.stack([tensor.read((), LINEAR) for tensor in self.tensors])
        return self.tensors[layer].read(index[::-1], LINEAR)
