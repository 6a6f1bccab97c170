"""The table of every family: which tensor of its files becomes which parameter."""

from collections.abc import Callable
from typing import Any

from convert import decoder, llava, llava_next, minicpm, muffin, omnilmm
from convert.decoder import Entry

TABLES: dict[str, Callable[[Any], list[Entry]]] = {
    "llava": llava.table,
    "llava_next": llava_next.table,
    "llama": decoder.table,
    "omnilmm": omnilmm.table,
    "muffin": muffin.table,
    "minicpm": minicpm.table,
}
