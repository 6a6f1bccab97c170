"""Ask a model the questions of a file, several times each: the candidates that feedback is made from.

    python -m rlaifv_jax.generate --model M --questions questions.jsonl --output answers.jsonl
    python -m rlaifv_jax.generate --server http://host:8000/v1 --model NAME --questions Q --output A

By default ten answers to each question at temperature 0.7, up to 512 tokens, as RLAIF-V makes its candidates.
With --temperature 0 or --num-beams 3 there is one.

Questions: the original's files, JSON lines or an array (docs/generate.md): `question`, and `image` (base64 or a
path) or `image_path`.

Answers: the original's records, a line each, in the order of the questions. A picture that cannot be read
or a prompt that is too long becomes a record with an `error` and an empty answer.

Kill it at any time: the same command goes on behind what is finished, and the file comes out the same. On several hosts
start the same command on each; they share the questions, and OUTPUT must be at gs://… or on a disk that all of them
see.

--best-of 8 --reference BASE writes the best of eight answers, by the length-normalised reward of DPO; all eight stay
in OUTPUT.candidates.jsonl.

An answer depends on the question, --seed and its number alone, not on what else is asked, when or where.

--server asks an OpenAI-compatible server instead, a request for each answer; the key comes from OPENAI_API_KEY. A
request that fails is sent again; then the run stops, and the same command goes on behind what is finished. What the
server refuses for good becomes an `error` of that record. What nobody sets (--top-p) is as the server has it, and
whether --seed gives the same answers again is up to it.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any

from rlaifv_jax import cli
from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.flags import add_model_flags, add_sampling_flags, changes, check_counts, speaker_options
from rlaifv_jax.sampling.settings import Sampling, check_samples, drawing, said_by

SAMPLES, TEMPERATURE, NEW_TOKENS = 10, 0.7, 512  # of llava15_diverse_gen.sh
BY_SERVER = ("temperature", "top_p", "max_new_tokens", "stop")  # that OpenAI's protocol has, of `Sampling`
ON_DEVICES = ("vision_path", "template", "image_aspect_ratio", "dtype", "cache", "tensor", "slots", "branches")
OF_SEVERAL = ("best_of", "reference", "policy")
PATIENCE = {"requests_per_minute": 0.0, "concurrency": 8, "retries": 6, "timeout": 120.0}


def generate(given: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    from rlaifv_jax import parallel
    from rlaifv_jax.answers import LocalAnswers
    from rlaifv_jax.asking import Asking
    from rlaifv_jax.data.questions import Questions
    from rlaifv_jax.records.answer_file import is_complete
    from rlaifv_jax.sampling.load import Speaker

    check(given)
    if os.path.realpath(given.questions) == os.path.realpath(given.output):
        raise UserError("--output is the file of questions; choose another")
    if given.best_of:
        return best_of(given)
    questions = Questions(given.questions, given.start, given.end, given.image_folder)
    parallel.initialize()
    if given.server:
        asking = by_server(given, questions)
    else:
        speaker = Speaker(given.model, **speaker_options(given))
        settings = candidates(speaker.defaults).changed(changes(given), speaker.defaults)
        speaker.check_settings(settings)
        samples = _samples(given, settings)
        asking = Asking(given, LocalAnswers(given, speaker, questions, settings, samples), questions, samples)
    if is_complete(given.output, asking.identity):
        cli.say(f"{given.output} is complete; nothing to do (remove it to ask again)")
        errors = asking.report(given.output) if parallel.is_main() else 0
    else:
        errors = asking.answer_all()
    return 1 if errors and given.fail_on_errors else 0


def check(given: argparse.Namespace) -> None:
    """Values that cannot work with any model. Raises `UserError`."""
    check_counts(
        n=(given.n, 0),
        slots=(given.slots, 0),
        branches=(given.branches, 0),
        tensor=(given.tensor, 0),
        best_of=(given.best_of, 0),
    )
    if given.server:
        _check_server(given)
    elif patience := [name for name in PATIENCE if getattr(given, name) is not None]:
        raise UserError(
            f"--{patience[0].replace('_', '-')} is for requests to a --server, and none is given; leave it out"
        )
    _samples(given, candidates({}).changed(changes(given), {}))


def _check_server(given: argparse.Namespace) -> None:
    """Options that a server cannot take, or that mean nothing to one. Raises `UserError`."""
    _line(given)
    for name in (*ON_DEVICES, *(name for name in changes(given) if name not in BY_SERVER)):
        if getattr(given, name):
            raise UserError(f"--{name.replace('_', '-')} is for a model on these devices; leave it out with a --server")
    for name in OF_SEVERAL:
        if getattr(given, name):
            raise UserError(
                f"--{name.replace('_', '-')}: let the --server answer first, then choose by `python -m "
                "rlaifv_jax.feedback best_of_n`"
            )


def _line(given: argparse.Namespace) -> Any:
    """The way to the server."""
    from rlaifv_jax.server_requests import ServerOptions

    patience = {name: getattr(given, name) for name in PATIENCE if getattr(given, name) is not None}
    return ServerOptions(key="", server=given.server, model=given.model, **(PATIENCE | patience))


def by_server(given: argparse.Namespace, questions: Any) -> Any:
    """The `Asking` of a server."""
    from rlaifv_jax.answers import ServerAnswers
    from rlaifv_jax.asking import Asking

    settings = candidates({}).changed(changes(given), {})
    samples = _samples(given, settings)
    decides = {
        "temperature": settings.temperature,
        "max_new_tokens": settings.max_new_tokens,
        "top_p": getattr(given, "top_p", None),
        "stop": list(settings.stop),
    }
    return Asking(given, ServerAnswers(_line(given), questions, decides, given.seed, samples), questions, samples)


def _samples(given: argparse.Namespace, settings: Sampling) -> int:
    """Answers to each question."""
    samples = given.n or given.best_of or (SAMPLES if settings.draws and settings.num_beams == 1 else 1)
    check_samples(settings, samples, given.branches)
    return int(samples)


def best_of(given: argparse.Namespace) -> int:
    """Ask for `given.best_of` answers to each question, and keep the best: see rlaifv_jax.feedback.best_of_n."""
    from rlaifv_jax import parallel
    from rlaifv_jax.feedback.best_of_n import choose_into
    from rlaifv_jax.sampling.load import check_model

    if given.n:
        raise UserError("--n and --best-of both say how many answers there are; give one of them")
    if given.best_by == "reward" and not given.reference:
        raise UserError(
            "--best-of needs --reference, the model that the policy was trained from, or --best-by likelihood"
        )
    for name in ("policy", "reference"):
        check_model(getattr(given, name), f"--{name}")
    asked = argparse.Namespace(**vars(given))
    asked.n, asked.best_of, asked.output = given.best_of, 0, f"{given.output}.candidates.jsonl"
    status = generate(asked)
    parallel.initialize()
    choose_into(given, asked.output)
    return status


def candidates(checkpoint: Mapping[str, Any]) -> Sampling:
    """The original's: what it passes to `generate`, and the rest as generation_config.json has it."""
    rest = said_by(checkpoint, "repetition_penalty", "length_penalty", "early_stopping", "min_new_tokens")
    return Sampling(temperature=TEMPERATURE, max_new_tokens=NEW_TOKENS, **(drawing(checkpoint) | rest))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--questions", required=True, help="file of questions")
    parser.add_argument("--output", required=True, help="file of answers; NAME.json becomes one JSON array")
    parser.add_argument(
        "--n", type=int, default=0, help=f"answers to each question (default {SAMPLES}; 1 if not drawn)"
    )
    parser.add_argument("--start", type=int, default=0, help="first row that is asked (default 0)")
    parser.add_argument("--end", type=int, default=-1, help="row behind the last that is asked (default: all)")
    group = parser.add_argument_group("the best of several", "chosen by what training has changed in a model")
    group.add_argument("--best-of", type=int, default=0, metavar="N", help="write the best of so many answers")
    group.add_argument("--reference", help="the model that the policy was trained from")
    group.add_argument("--policy", help="the trained model of the reward (default: --model)")
    group.add_argument(
        "--best-by",
        choices=("reward", "likelihood"),
        default="reward",
        help="log π - log π_ref a token, or log π a token (default: reward)",
    )
    parser.add_argument("--image-folder", default="", help="where relative picture paths may start, too")
    parser.add_argument("--fail-on-errors", action="store_true", help="exit with status 1 if a record has an error")
    add_model_flags(parser)
    group = parser.add_argument_group("a server", "instead of a model on these devices")
    group.add_argument("--server", default="", metavar="URL", help="where --model is served; OpenAI's protocol")
    for name, kind, text in (
        ("requests_per_minute", float, "0: no limit"),
        ("concurrency", int, "requests at once"),
        ("retries", int, "of a request that fails"),
        ("timeout", float, "seconds without a byte of the reply"),
    ):
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{text} (default {PATIENCE[name]:g})")
    add_sampling_flags(parser)
    group = parser.add_argument_group("speed", "changes no answer, but for rounding")
    group.add_argument("--slots", type=int, default=0, help="questions at once (default: what memory holds)")
    group.add_argument(
        "--branches", type=int, default=0, help="answers to a question at once (default: half of --n above 4)"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Entry of the console script `rlaifv-generate`."""
    given = parse_arguments(sys.argv[1:])
    sys.exit(cli.guard_status(lambda: generate(given)))


if __name__ == "__main__":
    main()
