"""The HTML pages of the project: templates with one style and one script frame.

A page is one file with everything in it; it works from a disk, without a network, and its policy lets no script run but
ours, whatever the text that it shows. `base.html.j2` is the frame of them all.
"""

import base64
import hashlib
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder. Text is escaped; a character that no file can hold becomes '?'.

    Raises:
      jinja2.UndefinedError: a value that the template names is not given.
    """
    return _ENVIRONMENT.get_template(template).render(**values).encode("utf-8", "replace").decode()


def macros(template: str) -> Any:
    """The macros of a template, by attribute: `macros("claims.html.j2").claim(text, p)` is safe markup."""
    return _ENVIRONMENT.get_template(template).module


def number(value: Any, like: Any = None) -> str:
    """For people: two decimals, three below 1, none of a whole number; '–' for None and nan.

    like: a value whose decimals are taken, for what stands beside it.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    measure = value if like is None else like
    places = 0 if isinstance(measure, int) else 2 if measure == 0 or abs(measure) >= 1 else 3
    return f"{value:.{places}f}".replace("-", "−")


def _inline(name: str) -> Markup:
    """A style or script of this folder as it is: not a template, and not escaped."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def digest(name: str) -> str:
    """By which a page's policy knows the script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_inline(name).encode()).digest()).decode()


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.globals |= {"inline": _inline, "digest": digest}
_ENVIRONMENT.filters["number"] = number
# JSON.parse takes no NaN; keys keep their order. The filter also escapes <, > and &, so that no text ends its element.
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
