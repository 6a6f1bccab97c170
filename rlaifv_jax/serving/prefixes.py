"""Prompts whose keys and values are kept: the same question about the same picture is computed once."""

import hashlib
from collections import OrderedDict

import jax

from rlaifv_jax.sampling.decode import Computed
from rlaifv_jax.sampling.prompt import Prompt


class Prefixes:
    """Those used last, in so many bytes of the devices; 0 keeps nothing."""

    def __init__(self, most: int):
        self.most, self.bytes = most, 0
        self._kept: OrderedDict[bytes, Computed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Computed | None:
        if found := self._kept.get(key):
            self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, computed: Computed) -> None:
        if (size := size_of(computed)) > self.most or key in self._kept:
            return
        self._kept[key] = computed
        self.bytes += size
        while self.bytes > self.most:
            _, old = self._kept.popitem(last=False)
            self.bytes -= size_of(old)

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0


def size_of(computed: Computed) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(computed))


def key_of(prompt: Prompt) -> bytes:
    """A digest of all that the model sees of a prompt: tokens and pixels."""
    digest = hashlib.sha256(prompt.encoded.prefix.tobytes())
    if prompt.image is not None:
        digest.update(repr(prompt.image.pixels.shape).encode() + prompt.image.pixels.tobytes())
        digest.update(prompt.image.grids.tobytes())
    if prompt.encoded.picture:
        for places in prompt.encoded.picture.places:
            digest.update(b"%d " % len(places) + places.tobytes())
    return digest.digest()
