"""Command-line options of whatever generates; no JAX is needed to read them."""

import argparse
from dataclasses import fields
from typing import Any, Literal

from rlaifv_jax.data.images import ASPECT_RATIOS
from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.settings import CACHE_DTYPES, DTYPES, TOP_K, Sampling

EARLY: dict[str, bool | Literal["never"]] = {"false": False, "true": True, "never": "never"}


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=True, help="Hugging Face directory, hub id, or a directory of this project")
    group.add_argument("--vision-path", help="the CLIP tower, for checkpoints without one (directory or hub id)")
    group.add_argument("--template", help="conversation template (default: the checkpoint's or its family's)")
    group.add_argument(
        "--image-aspect-ratio",
        choices=ASPECT_RATIOS,
        default="",
        help="how an oblong picture becomes a square, or several (default: as the family's original generates)",
    )
    group.add_argument("--dtype", choices=DTYPES, help="default: bfloat16; float32 on CPUs")
    group.add_argument("--cache", choices=CACHE_DTYPES, help="of keys and values (default: --dtype)")
    group.add_argument("--tensor", type=int, default=0, help="devices that share a copy of the weights (default: all)")


def speaker_options(given: Any) -> dict[str, Any]:
    """Keyword arguments of `Speaker` as given."""
    return {
        "vision_path": given.vision_path,
        "dtype": given.dtype or "",
        "tensor": given.tensor,
        "template": given.template,
        "aspect_ratio": given.image_aspect_ratio,
    }


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Options without defaults: what is not given stays as the command has it."""
    group = parser.add_argument_group("how tokens are chosen", "names and meanings as in transformers' generate")

    def add(name: str, kind: Any, text: str, **options: Any) -> None:
        group.add_argument(name, type=kind, help=text, default=argparse.SUPPRESS, **options)

    add("--temperature", float, "0 takes the most likely token")
    add("--top-k", int, f"draw from so many tokens; 0 from all (the checkpoint's, else {TOP_K})")
    add("--top-p", float, "draw from the likeliest tokens with this probability together")
    add("--repetition-penalty", float, "over BOS and the answer; 1 is none")
    add("--num-beams", int, "more than 1: beam search; with a temperature beams are drawn")
    add("--length-penalty", float, "of beams; 1 compares mean log-probabilities")
    add("--early-stopping", _early, "of beams: false, true or never", metavar="WHEN")
    add("--min-new-tokens", int, "no end before")
    add("--max-new-tokens", int, "cut answers there")
    group.add_argument(
        "--penalize-prompt",
        action="store_true",
        default=argparse.SUPPRESS,
        help="count the prompt's tokens as repeated too, as transformers does with token ids",
    )
    group.add_argument(
        "--stop", action="append", default=argparse.SUPPRESS, metavar="TEXT", help="ends an answer; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")


def _early(text: str) -> bool | Literal["never"]:
    if text not in EARLY:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(EARLY)}")
    return EARLY[text]


def changes(given: argparse.Namespace) -> dict[str, Any]:
    """Fields of `Sampling` that the command line sets."""
    return {field.name: getattr(given, field.name) for field in fields(Sampling) if hasattr(given, field.name)}


def check_counts(**counts: tuple[int, int]) -> None:
    """name → (value, least). Raises `UserError` for one below."""
    for name, (value, least) in counts.items():
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
