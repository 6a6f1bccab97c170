"""Functions of other modules, named `module:function` in a config."""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Named:
    """A function and where it came from. fingerprint: of the source of its module."""

    name: str
    call: Callable[..., Any]
    fingerprint: str


def load_function(name: str, key: str) -> Named:
    """key: the setting that names it, for messages. Raises `UserError` where there is none."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UserError(f"{key} is {name!r}; write package.module:function")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}: {name} cannot be imported: {error}") from None
    if not callable(function):
        raise UserError(f"{key}: {name} is no function but {type(function).__name__}")
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        source = module_name
    return Named(name, function, hashlib.sha256(source.encode()).hexdigest()[:16])


def texts(found: Any, function: Named, what: str) -> list[str]:
    """See that a function has returned a list of texts. what: it was asked for, for messages."""
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{function.name} returned {_short(found)} where a list of {what} is needed")
    return list(found)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
