"""Options of `python -m eval`."""

import argparse
import math
from pathlib import Path
from typing import Any

from eval.generation import ENGINES, Generation
from rlaifv_jax.data.images import ASPECT_RATIOS
from rlaifv_jax.places import place

DATA = "data/eval"


def parse(arguments: list[str], doc: str) -> argparse.Namespace:
    top = argparse.ArgumentParser(
        prog="python -m eval", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = _verb(verbs, "run", "score one benchmark", "Where the data lies: DATA/BENCHMARK, or DATA itself.")
    run.add_argument("benchmark", help="object_halbench, mmhal, refomb, … (python -m eval data lists them)")
    answers = run.add_mutually_exclusive_group(required=True)
    answers.add_argument("--answers", type=place, metavar="FILE", help="answers of any model, JSON lines or an array")
    answers.add_argument(
        "--model", help="answer with this one first: Hugging Face directory, hub id, or of this project"
    )
    _add_run(run)

    every = _verb(
        verbs, "all", "score all benchmarks whose data is there", "Ends with one table of the headline figures."
    )
    answers = every.add_mutually_exclusive_group(required=True)
    answers.add_argument("--answers", type=place, metavar="DIR", help="a folder with BENCHMARK.jsonl each")
    answers.add_argument("--model", help="answer with this model first")
    every.add_argument("--benchmarks", nargs="+", default=[], metavar="NAME", help="only these")
    _add_run(every)

    compare = _verb(
        verbs,
        "compare",
        "put runs side by side",
        "Differences are to the first run; their 95 % intervals are bootstraps over the questions that both answered.",
    )
    compare.add_argument("runs", nargs="+", type=place, metavar="RUN", help="an --output of run or all")
    compare.add_argument("--no-published", action="store_true", help="leave out the figures of papers")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")

    data = _verb(verbs, "data", "say what a benchmark needs and check what is there", "Nothing is downloaded.")
    data.add_argument("benchmark", nargs="?", help="one of them (default: all)")
    _add_data(data)
    data.add_argument("--coco", type=Path, metavar="DIR", help="make the object index from COCO's annotations of 2014")
    data.add_argument(
        "--matcher",
        default="lexicon",
        metavar="NAME",
        help="finds nouns in captions: nltk (the original's) or lexicon (default)",
    )
    data.add_argument(
        "--small-world", type=int, default=0, metavar="N", help="write N scenes of the small world instead"
    )
    return top.parse_args(arguments)


def _verb(verbs: Any, name: str, text: str, more: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text.capitalize()}. {more}")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path(DATA), help=f"folder of the benchmarks' files (default {DATA})"
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument("--output", type=place, required=True, help="folder for scores, items, replies and the page")
    parser.add_argument("--mode", choices=("compat", "fixed"), default="compat", help="default compat")
    parser.add_argument(
        "--extractor",
        default="lexicon",
        metavar="NAME",
        help="finds nouns: spacy:PIPELINE (spacy:en_core_web_trf is the reference), nltk, shapes, lexicon (default)",
    )
    parser.add_argument(
        "--repeat", type=_count, default=1, metavar="N", help="judge everything N times, tell the spread"
    )
    parser.add_argument("--swap-order", action="store_true", help="ask about two answers in both orders")
    parser.add_argument("--allow-partial", action="store_true", help="tell a score though some answers have no verdict")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say how many calls and tokens the judge would cost"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of bootstrap and drawn answers (default 0)")
    group = parser.add_argument_group("judge")
    group.add_argument("--judge-model", metavar="NAME", help="the name it goes by on the server")
    group.add_argument("--judge-server", metavar="URL", help="default: OPENAI_BASE_URL, else OpenAI's")
    group.add_argument("--judge-local", metavar="MODEL", help="a language model on these devices instead")
    group.add_argument(
        "--judge-prompt",
        action="append",
        default=[],
        metavar="[STAGE=]FILE",
        help="a template of your own, e.g. the official one",
    )
    group.add_argument("--require-model", action="store_true", help="a reply of a model of another name is a failure")
    group.add_argument("--system-as-user", action="store_true", help="for servers that refuse a system message")
    group.add_argument("--concurrency", type=_count, default=16, help="requests at once (default 16)")
    group.add_argument("--requests-per-minute", type=float, default=0, metavar="N", help="0: no limit (default)")
    group.add_argument("--retries", type=int, default=5, help="of a request that fails (default 5)")
    group.add_argument("--parse-retries", type=int, default=2, help="of a reply without a verdict (default 2)")
    group.add_argument("--timeout", type=float, default=120, metavar="S", help="seconds without a reply (default 120)")
    group = parser.add_argument_group("answers by --model", "as the originals evaluate: three beams, nothing drawn")
    default = Generation("")
    group.add_argument("--engine", choices=ENGINES, default=default.engine, help="transformers proves an export")
    group.add_argument("--num-beams", type=_count, default=default.num_beams, help=f"default {default.num_beams}")
    group.add_argument("--temperature", type=_heat, default=default.temperature, help="default 0: nothing is drawn")
    group.add_argument(
        "--repetition-penalty", type=_heat, default=default.repetition_penalty, help="default 1: none; Muffin's is 1.1"
    )
    group.add_argument(
        "--max-new-tokens", type=_count, default=default.max_new_tokens, help=f"default {default.max_new_tokens}"
    )
    group.add_argument("--append", default="", metavar="TEXT", help="behind every question")
    group.add_argument("--vision-path", default="", help="the CLIP tower, for checkpoints without one")
    group.add_argument("--template", default="", help="conversation template (default: the checkpoint's)")
    group.add_argument(
        "--image-aspect-ratio", choices=ASPECT_RATIOS, default="", help="of oblong pictures (default: as its original)"
    )
    group.add_argument(
        "--dtype", default="", choices=("", "float32", "bfloat16"), help="default: bfloat16; float32 on CPUs"
    )
    group.add_argument("--tensor", type=int, default=0, help="devices that share a copy of the weights (default: all)")
    group.add_argument("--slots", type=int, default=0, help="questions at once (default: what memory holds)")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _heat(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def generation_of(given: argparse.Namespace) -> Generation:
    names = Generation.__dataclass_fields__
    return Generation(**{name: getattr(given, name) for name in names})
