"""Compare labelers: what the score stage has written of the same claims with several of them.

    python -m rlaifv_jax.feedback agreement A/score B/score [C/score …] --output out/agreement
    python -m rlaifv_jax.feedback agreement A/score B/score --truth labels.jsonl
    python -m rlaifv_jax.feedback agreement A/score B/score --against 1

How often two agree, beyond chance too (Cohen's kappa), and about which claims they differ most. Against labels of
--truth (records with question_id, claim and truth; a part of the claims will do), or against the verdicts of one of
them: how many verdicts are right, and whether P(yes) means what it says. P(yes) is that of yes and no together.

Score sets must be about the same claims in the same order, as the score stage writes them from the same input; the
first difference is named.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError

CHART = "reliability.png"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.feedback agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scores", nargs="+", help="directory of the score stage, or a file of its records")
    parser.add_argument("--truth", default="", help="file of labels")
    parser.add_argument("--against", type=int, default=0, metavar="N", help="take the N-th labeler's verdicts for true")
    parser.add_argument("--bins", type=int, default=10, help="of the reliability table (default 10)")
    parser.add_argument("--most", type=int, default=10, help="claims to show that they differ about (default 10)")
    parser.add_argument("--output", default="", help=f"directory for agreement.json, agreement.md and {CHART}")
    return parser.parse_args(arguments)


def command(given: argparse.Namespace) -> None:
    """Print the tables, and write the files that are asked for. Raises `UserError`."""
    from rlaifv_jax.feedback.agreement.claims import read
    from rlaifv_jax.feedback.agreement.report import as_text, compare, tables

    if given.truth and given.against:
        raise UserError("--truth and --against both say what is true; give one of them")
    if not 0 <= given.against <= len(given.scores):
        raise UserError(f"--against is {given.against}; it must be the place of one of {len(given.scores)} score sets")
    if given.bins < 1 or given.most < 0:
        raise UserError("--bins must be 1 or more, --most 0 or more")
    judgements = read(given.scores, given.truth)
    found = compare(judgements, given.against - 1 if given.against else None, given.bins, given.most)
    print(as_text(tables(found)))
    if given.output:
        _write(found, Path(given.output))


def _write(found: Any, directory: Path) -> None:
    """found: of `compare`."""
    from rlaifv_jax.cli import say
    from rlaifv_jax.feedback.agreement.chart import draw_reliability
    from rlaifv_jax.feedback.agreement.report import as_json, as_markdown, tables
    from rlaifv_jax.records.settings import write_whole

    drawn = {found.judgements.labelers[place].name: one for place, one in found.calibrations.items() if one is not None}
    chart = ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if drawn:
            try:
                draw_reliability(directory / CHART, drawn, found.against)
                chart = CHART
            except ImportError:
                say(f"no {CHART}: it needs matplotlib")
        write_whole(directory / "agreement.json", [json.dumps(as_json(found), indent=2, default=str) + "\n"])
        write_whole(directory / "agreement.md", [as_markdown(tables(found), chart)])
    except OSError as error:
        raise UserError(f"--output: {directory} cannot be written ({error.strerror}); choose another place") from None
    say(f"agreement: {directory}")
