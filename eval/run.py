"""One benchmark on one model's answers: examined, scored, written down.

OUTPUT/scores.json     metrics and what they were made with
OUTPUT/items.jsonl     every answer with its findings and the judge's replies
OUTPUT/index.html      the same, to look at
OUTPUT/replies.jsonl   the judge's replies as they came, from which a second run goes on
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from eval import scores
from eval.benchmark import Benchmark, Item, Row, Tools
from eval.data import files_of
from eval.files import sha256
from eval.judge.request import Reply
from eval.page import write_page
from eval.prompts import Prompts
from rlaifv_jax.cli import say
from rlaifv_jax.data.pictures import LONGEST_PATH
from rlaifv_jax.pages.thumbnail import write_thumbnail
from rlaifv_jax.records.settings import write_whole

Counts = Sequence[Sequence[Mapping[str, float]]]  # of every repetition, what each row adds to the sums; {}: it failed


@dataclass(frozen=True)
class Run:
    """data: folder or file of the benchmark. answers: file; answers_sha256: of what was read of it. generation: how
    these were made, if here. notes: for the report. repeat: times that everything is judged. allow_partial: whether
    some may fail."""

    benchmark: Benchmark
    data: Path
    answers: Path
    answers_sha256: str
    output: Path
    tools: Tools
    prompts: Prompts
    repeat: int = 1
    allow_partial: bool = False
    generation: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    seed: int = 0


def score(run: Run, rows: Sequence[Row]) -> dict[str, Any]:
    """Examine `rows`, write the files, and return what scores.json holds."""
    judge = run.tools.judge
    runs = []
    for number in range(run.repeat):
        tools = replace(run.tools, judge=judge.in_round(number)) if judge else run.tools
        again = [Row(row.item, row.answer, failed=row.failed) for row in rows]
        examine(run.benchmark, again, tools)
        runs.append(again)
    counts = [[{} if row.failed else run.benchmark.counts(row) for row in rows] for rows in runs]
    report = report_of(run, runs, counts)
    write_items(run, runs, counts)
    write_whole(run.output / "scores.json", [json.dumps(report, indent=2, ensure_ascii=False), "\n"])
    write_page(run.output)
    return report


def examine(benchmark: Benchmark, rows: Sequence[Row], tools: Tools) -> None:
    """Rows that are answered; the others have failed already."""
    answered = [row for row in rows if not row.failed]
    benchmark.examine(answered, tools)
    for row in answered:
        if not row.failed and not row.values:
            row.failed = "nothing was found out"


def report_of(run: Run, runs: Sequence[Sequence[Row]], counts: Counts) -> dict[str, Any]:
    benchmark, tools = run.benchmark, run.tools
    failed = sum(any(row.failed for row in rows) for rows in zip(*runs, strict=True))
    allowed = run.allow_partial or not failed
    each = [scores.metrics_of(benchmark, [one for one in of_run if one], tools.mode) for of_run in counts]
    means, spread = scores.averaged(each)
    items = [mean for of_item in zip(*counts, strict=True) if (mean := scores.mean_counts(of_item))]
    models = sorted({reply.model for rows in runs for row in rows for reply in row.replies if reply.model})
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "mode": tools.mode,
        "judge": {**tools.judge.settings, "returned": models} if tools.judge else None,
        "extractor": tools.extractor.name if tools.extractor else None,
        "extractor_is_reference": tools.extractor.is_reference if tools.extractor else None,
        "n": len(runs[0]),
        "n_failed": failed,
        "partial": bool(failed),
        "failed": reasons(runs),
        "metrics": means if allowed else {},
        "headline": list(benchmark.headline),
        "higher_is_better": dict(benchmark.higher_is_better),
        "intervals": scores.intervals(benchmark, items, tools.mode, run.seed) if allowed else {},
        "runs": each if allowed else [],
        "spread": spread if allowed else {},
        "tokens": tokens(runs),
        "swapped": tools.swap,
        "prompts": dict(run.prompts.origins),
        "hashes": {
            "data": sha256(files_of(run.benchmark.name, run.data)),
            "answers": run.answers_sha256,
            "prompts": run.prompts.hashes,
        },
        "answers": str(run.answers),
        "generation": run.generation,
        "notes": [*run.notes, *benchmark.notes(runs[0], tools)],
        "version": metadata.version("rlaifv-jax"),
    }


def tokens(runs: Sequence[Sequence[Row]]) -> dict[str, int] | None:
    """Of all the judge's replies, as its server counts them; None where it does not."""
    replies = [reply for rows in runs for row in rows for reply in row.replies]
    if not replies or any(reply.input_tokens is None and not reply.error for reply in replies):
        return None
    read = sum(reply.input_tokens or 0 for reply in replies)
    written = sum(reply.output_tokens or 0 for reply in replies)
    return {"input": read, "output": written, "total": read + written}


def reasons(runs: Sequence[Sequence[Row]]) -> dict[str, int]:
    """Why rows failed, the most common first, and how many did for it."""
    counts = Counter(row.failed.split(";")[0][:100] for rows in runs for row in rows if row.failed)
    return dict(counts.most_common(5))


def write_items(run: Run, runs: Sequence[Sequence[Row]], counts: Counts) -> None:
    """With a small copy of every picture that is here, in OUTPUT/pictures."""
    folder = run.data if run.data.is_dir() else run.data.parent
    items = [row.item for row in runs[0]]
    pictures = {item.id: write_thumbnail(item.image, folder, run.output / "pictures") for item in items}
    lines = []
    for number, (rows, of_run) in enumerate(zip(runs, counts, strict=True)):
        for row, adds in zip(rows, of_run, strict=True):
            line = {"run": number, **_item(row.item), "picture": pictures[row.item.id], **_findings(row)}
            line["counts"] = adds
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_whole(run.output / "items.jsonl", lines)


def _item(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "category": item.category,
        "question": item.question,
        "image": item.image if len(item.image) <= LONGEST_PATH else "",  # base64 is too much to repeat here
        "image_id": item.image_id,
    }


def _findings(row: Row) -> dict[str, Any]:
    replies: list[Reply] = row.replies
    return {
        "answer": row.answer,
        "values": row.values,
        "marked": row.marked,
        "failed": row.failed,
        "replies": [asdict(reply) for reply in replies],
    }


def tell(report: Mapping[str, Any], output: Path) -> bool:
    """Say the scores; returns whether there are any."""
    judge = report["judge"]
    by = f", judge {judge.get('model')}" if judge else ""
    nouns = f", nouns by {report['extractor']}" if report["extractor"] else ""
    print(f"{report['title']} · {report['mode']} · {report['n']} answers{by}{nouns}")
    if judge and set(judge["returned"]) - {judge.get("model")}:
        say(f"warning: the judge calls itself {', '.join(judge['returned'])}")
    if report["extractor_is_reference"] is False:
        say("warning: nouns were not found as for the published figures; compare only with runs of the same extractor")
    for note in report["notes"]:
        say(f"note: {note}")
    if report["n_failed"]:
        say(
            f"warning: {report['n_failed']} of {report['n']} have no verdict, see 'failed' in {output / 'items.jsonl'}:"
        )
        for why, count in report["failed"].items():
            say(f"  {count}: {why}")
    if not report["metrics"]:
        if report["n_failed"] == report["n"]:
            say("there is nothing to score")
        else:
            say(
                "no score is told of a part: the same command asks again for what got no reply, more --parse-retries "
                "for what could not be read, and --allow-partial scores the rest"
            )
        return False
    first = [name for name in report["headline"] if name in report["metrics"]]
    for name in (*first, *(name for name in report["metrics"] if name not in first)):
        print(f"  {name:<32}{told(report, name)}")
    say(f"everything: {output / 'index.html'}")
    return True


def told(report: Mapping[str, Any], name: str) -> str:
    """A metric with its 95 % interval, and its spread over repetitions."""
    value = report["metrics"].get(name)
    if value is None:
        return "     –"
    text = f"{value:8.2f}"
    if name in report["intervals"]:
        low, high = report["intervals"][name]
        text += f"   [{low:.2f}, {high:.2f}]"
    if name in report["spread"]:
        text += f"   ± {report['spread'][name]:.2f} over {len(report['runs'])} runs"
    return text
