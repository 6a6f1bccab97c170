"""Command-line options of whatever generates; no JAX is needed to read them."""

import argparse
from typing import Any, Literal

from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.settings import Sampling

TOP_K = 50  # drawn from where neither the command line nor the checkpoint says otherwise, as transformers does
EARLY: dict[str, bool | Literal["never"]] = {"false": False, "true": True, "never": "never"}


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=True, help="Hugging Face directory, hub id, or a directory of this project")
    group.add_argument("--vision-path", help="the CLIP tower, for checkpoints without one (directory or hub id)")
    group.add_argument("--template", help="conversation template (default: the checkpoint's, else llava_v1)")
    group.add_argument(
        "--image-aspect-ratio", choices=("pad", "crop"), default="pad", help="how an oblong picture becomes a square"
    )
    group.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16; float32 on CPUs")
    group.add_argument("--cache", choices=("float32", "bfloat16", "int8"), help="of keys and values (default: --dtype)")
    group.add_argument("--tensor", type=int, default=0, help="devices that share a copy of the weights (default: all)")


def speaker_options(given: Any) -> dict[str, Any]:
    """Keyword arguments of `Speaker` as given."""
    return {
        "vision_path": given.vision_path,
        "dtype": given.dtype or "",
        "tensor": given.tensor,
        "template": given.template,
        "pad": given.image_aspect_ratio == "pad",
    }


def add_sampling_flags(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    group = parser.add_argument_group("how tokens are chosen", "names and meanings as in transformers' generate")
    group.add_argument("--temperature", type=float, help="0 takes the most likely token")
    group.add_argument(
        "--top-k", type=int, help=f"draw from so many tokens; 0 all (default: checkpoint's, else {TOP_K})"
    )
    group.add_argument("--top-p", type=float, help="draw from the likeliest tokens with this probability together")
    group.add_argument(
        "--repetition-penalty", type=float, default=1.0, help="over BOS and the answer (default 1: none)"
    )
    group.add_argument("--penalize-prompt", action="store_true", help="count the prompt's tokens as repeated too")
    group.add_argument("--num-beams", type=int, help="more than 1: beam search; with a temperature beams are drawn")
    group.add_argument("--length-penalty", type=float, default=1.0, help="of beams (default 1: mean log-probability)")
    group.add_argument("--early-stopping", choices=tuple(EARLY), default="false", help="of beams (default false)")
    group.add_argument("--min-new-tokens", type=int, default=0, help="no end before (default 0)")
    group.add_argument("--max-new-tokens", type=int, default=max_new_tokens, help=f"default {max_new_tokens}")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="ends an answer; may be repeated")
    group.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")


def sampling(given: Any, checkpoint: dict[str, Any], *, temperature: float, num_beams: int = 1) -> Sampling:
    """Settings as given; the rest from the checkpoint's generation_config.json, then transformers' own defaults.

    temperature, num_beams: where not given. Raises `UserError` for what means nothing.
    """
    beams = num_beams if given.num_beams is None else given.num_beams
    heat = temperature if given.temperature is None else given.temperature
    top_k, top_p = given.top_k, given.top_p
    if heat > 0:
        top_k = checkpoint.get("top_k", TOP_K) if top_k is None else top_k
        top_p = checkpoint.get("top_p", 1.0) if top_p is None else top_p
    return Sampling(
        temperature=heat,
        top_k=top_k or 0,
        top_p=1.0 if top_p is None else top_p,
        repetition_penalty=given.repetition_penalty,
        penalize_prompt=given.penalize_prompt,
        min_new_tokens=given.min_new_tokens,
        max_new_tokens=given.max_new_tokens,
        num_beams=beams,
        length_penalty=given.length_penalty,
        early_stopping=EARLY[given.early_stopping],
        stop=tuple(given.stop),
    )


def check_counts(**counts: tuple[int, int]) -> None:
    """name → (value, least). Raises `UserError` for one below."""
    for name, (value, least) in counts.items():
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
