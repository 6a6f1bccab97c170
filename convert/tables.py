"""The table of every family: which tensor of its files becomes which parameter."""

from collections.abc import Callable
from typing import Any

from convert import decoder, llava, minicpm, muffin, omnilmm
from convert.decoder import Entry

TABLES: dict[str, Callable[[Any], list[Entry]]] = {
    "llava": llava.table,
    "llama": decoder.table,
    "omnilmm": omnilmm.table,
    "muffin": muffin.table,
    "minicpm": minicpm.table,
}
