"""Look at data before anything is trained.

    python -m rlaifv_jax.data check PATH                      every row read, every picture decoded
    python -m rlaifv_jax.data check PATH --model M            the check that a run with this model makes first

PATH: parquet, JSON lines, a JSON array, a directory or glob of them, or a dataset of the hub (docs/data.md).
Exit status: 0, all rows can be used; 1, some are left out, and by what reason; 2, this cannot be trained on.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rlaifv_jax.cli import guard_status
from rlaifv_jax.errors import UserError


def check(given: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    from rlaifv_jax.data.check import check_for_model, check_rows

    if given.max_length < 0 or given.workers < 0:
        raise UserError("--max-length and --workers must be 0 or more")
    if not given.model and (given.template or given.max_length):
        raise UserError("--template and --max-length are of a model; give --model, too")
    if given.model:
        found = check_for_model(
            given.path, given.objective, given.model, given.template, given.max_length, given.workers
        )
    else:
        found = check_rows(given.path, given.objective)
    for line in found.told():
        print(line)
    if given.list:
        try:
            given.list.write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in found.bad))
        except OSError as error:
            raise UserError(f"--list: {given.list} cannot be written ({error.strerror}); choose another") from None
    if len(found.bad) == found.total:
        raise UserError(f"data: {found.path}: none of its {found.total} rows can be used; the reasons stand above")
    return 1 if found.bad else 0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("check",))
    parser.add_argument("path", help="the data")
    parser.add_argument("--objective", choices=("dpo", "sft"), default="dpo", help="pairs (default), or answers alone")
    parser.add_argument("--model", default="", help="Hugging Face directory, hub id, or of this project")
    parser.add_argument("--template", default="", help="conversation template (default: the checkpoint's)")
    parser.add_argument("--max-length", type=int, default=0, help="of an answer's row (default: the family's)")
    parser.add_argument("--workers", type=int, default=0, help="processes that look, with --model (default: this one)")
    parser.add_argument("--list", type=Path, metavar="FILE", help="write a JSON line for each row that is left out")
    return parser.parse_args(arguments)


def main() -> None:
    """Entry of `python -m rlaifv_jax.data`."""
    given = parse_arguments(sys.argv[1:])
    sys.exit(guard_status(lambda: check(given)))


if __name__ == "__main__":
    main()
