"""A report of a run: one page that works from a disk, tables for a pull request, or a figure for a paper.

    python -m rlaifv_jax.report RUN_DIR [--format html|md|png] [--output FILE]

RUN_DIR is the output_dir of rlaifv_jax.train, of rlaifv_jax.iterate, of rlaifv_jax.feedback or of eval, a demo's, or
any directory that holds some of them. What it holds is shown: curves, hallucination by round and checkpoint, the same
question answered before and after, pairs and why others were dropped, config, hardware, versions, seeds, time. It may
be in progress.

    html   RUN_DIR/report.html, everything in it          md   RUN_DIR/report.md, and report.png beside it
    png    RUN_DIR/report.png, the main charts in one figure
"""

import argparse
import sys

from etils import epath

from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import refused

SUFFIXES = {"html": (".html", ".htm"), "md": (".md", ".markdown"), "png": (".png",)}


def write_report(directory: str, form: str = "html", output: str = "") -> str:
    """Write the report of a run; returns where it is.

    Raises:
      UserError: the directory is no run, a file of it is damaged, or the report cannot be written.
    """
    from rlaifv_jax.report.contents import read
    from rlaifv_jax.report.draw import png
    from rlaifv_jax.report.find import find
    from rlaifv_jax.report.markdown import as_markdown
    from rlaifv_jax.report.page import as_page

    contents = read(find(directory))
    file = epath.Path(output or epath.Path(directory) / f"report.{form}")
    if file.suffix.lower() not in SUFFIXES[form]:
        raise UserError(f"--output is {file}, and --format {form} is written; name it *.{form}, or change --format")
    picture = file if form == "png" else file.with_suffix(".png")
    if form == "png" and not contents.figure:
        raise UserError(f"{directory}: there is nothing to draw; --format html or md says what there is")
    try:
        if form == "html":
            file.write_text(as_page(contents), encoding="utf-8")
            return str(file)
        if contents.figure:
            picture.write_bytes(png(contents.figure, contents.title))
        if form == "md":
            file.write_text(as_markdown(contents, picture.name if contents.figure else ""), encoding="utf-8")
    except OSError as error:
        raise refused(f"--output: {file} cannot be written", error, "choose another place") from None
    return str(file)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="RUN_DIR")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="html", help="default: html")
    parser.add_argument("--output", default="", metavar="FILE", help="default: RUN_DIR/report.FORMAT")
    return parser.parse_args(arguments)


def main() -> None:
    """Entry of the console script `rlaifv-report`."""
    given = parse_arguments(sys.argv[1:])
    sys.exit(guard(lambda: print(write_report(given.directory, given.format, given.output))))


if __name__ == "__main__":
    main()
