"""Functions of other modules, named `module:function` in a config."""

import hashlib
import importlib
import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import shortly


@dataclass(frozen=True)
class Named:
    """A function and where it came from. fingerprint: of the source of its module."""

    name: str
    function: Callable[..., Any]
    fingerprint: str

    def call(self, *given: Any) -> Any:
        """What it returns. Raises `UserError` for whatever it raises, with the place."""
        try:
            return self.function(*given)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename}, line {last.lineno}"
            told = ", ".join(shortly(value) for value in given)
            raise UserError(f"{self.name} failed on {told}: {type(error).__name__}: {error} ({place})") from error

    def texts(self, what: str, *given: Any) -> list[str]:
        """The list of texts that it returns. what: it is asked for, for messages."""
        found = self.call(*given)
        if (
            not isinstance(found, Sequence)
            or isinstance(found, str)
            or not all(isinstance(text, str) for text in found)
        ):
            raise UserError(f"{self.name} returned {shortly(found)} where a list of {what} is needed")
        return list(found)


def load_function(name: str, key: str) -> Named:
    """key: the setting that names it, for messages. Raises `UserError` where there is none."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UserError(f"{key} is {name!r}; write package.module:function")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, attribute)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise UserError(f"{key}: {name} cannot be imported ({type(error).__name__}: {error}); check its name") from None
    if not callable(function):
        raise UserError(f"{key}: {name} is no function but {type(function).__name__}; name one")
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        source = module_name
    return Named(name, function, hashlib.sha256(source.encode()).hexdigest()[:16])
