"""What the verbs of `python -m eval` do."""

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval import data as data_files
from eval import prompts, registry
from eval.answers import Answers, read
from eval.benchmark import Benchmark, Item, Row, Tools
from eval.files import make_folder
from eval.flags import generation_of
from eval.judge.request import Judge
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError


def run(given: argparse.Namespace) -> int:
    """Score one benchmark; returns the exit status: 1 where no score can be told."""
    return _score(given, registry.get(given.benchmark), given.output)[0]


def all(given: argparse.Namespace) -> int:
    """Every benchmark whose data is there, one after the other; what one of them lacks does not stop the others.

    Returns 1 where one that was named or whose data is there has no score.
    """
    benchmarks = [registry.get(name) for name in given.benchmarks or registry.BENCHMARKS]
    stages = [stage for benchmark in benchmarks for stage in benchmark.stages]
    prompts.load(stages, given.judge_prompt)
    reports, status = {}, 0
    for benchmark in benchmarks:
        name, output = benchmark.name, given.output / benchmark.name
        folder = data_files.folder_of(given.data, name)
        if not given.benchmarks and not data_files.is_there(name, folder):
            say(f"{name}: left out: its data is not in {given.data}; see python -m eval data {name}")
            continue
        own = argparse.Namespace(**vars(given))
        own.judge_prompt = [text for text in given.judge_prompt if text.partition("=")[0] in benchmark.stages]
        own.swap_order = given.swap_order and benchmark.compares
        try:
            ended, reports[name] = _score(own, benchmark, output)
        except UserError as error:
            old = f"; {output} holds an earlier result" if (output / "scores.json").exists() else ""
            say(f"{name}: not scored: {' '.join(str(error).split())}{old}")
            ended = 1
        status = max(status, ended)
    if not reports:
        raise UserError(f"no benchmark can be scored; python -m eval data --data {given.data} says what is missing")
    if given.dry_run or not _is_first(given):
        return status
    print()
    for name, report in reports.items():
        figures = (f"{key} {_figure(report['metrics'].get(key))}" for key in report["headline"])
        print(f"{name:<22}" + "   ".join(figures))
    return status


def _is_first(given: argparse.Namespace) -> bool:
    """Of several processes that answer together, the first one scores."""
    if not given.model or given.dry_run:
        return True
    from rlaifv_jax import parallel

    parallel.initialize()
    return parallel.is_main()


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def compare(given: argparse.Namespace) -> int:
    from eval.compare import open_runs, table, text

    blocks = table([run for path in given.runs for run in open_runs(path)], published=not given.no_published)
    print(text(blocks))
    if given.json:
        try:
            given.json.write_text(json.dumps(blocks, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"--json: {given.json} cannot be written ({error.strerror}); choose another place"
            ) from None
    return 0


def data(given: argparse.Namespace) -> int:
    """Returns 1 where something is missing or altered."""
    if given.coco or given.small_world:
        if given.benchmark not in (None, "object_halbench"):
            raise UserError(f"--coco and --small-world make data of object_halbench, not of {given.benchmark}")
        from eval.objects.making import make

        make(given.data, given.coco, given.small_world, given.matcher)
        return 0
    names = [registry.get(given.benchmark).name] if given.benchmark else list(registry.BENCHMARKS)
    whole = True
    for name in names:
        folder = data_files.folder_of(given.data, name)
        folder = folder.parent if folder.is_file() else folder
        print(data_files.describe(name, folder))
        whole = whole and data_files.is_whole(name, folder)
    return 0 if whole else 1


def _score(given: argparse.Namespace, benchmark: Benchmark, output: Path) -> tuple[int, dict[str, Any]]:
    folder = data_files.folder_of(given.data, benchmark.name)
    if not folder.exists():
        raise UserError(f"--data: there is no {folder}; python -m eval data {benchmark.name} says what is needed")
    judged = given.judge_model or given.judge_local
    if benchmark.stages and not judged and not benchmark.optional_judge:
        raise UserError(
            f"{benchmark.name} needs a judge: --judge-model NAME (and --judge-server URL), or --judge-local"
        )
    if given.judge_model and given.judge_local:
        raise UserError("--judge-model is behind a server and --judge-local is here; give one of them")
    if given.swap_order and not benchmark.compares:
        raise UserError(f"--swap-order: {benchmark.name} shows the judge one answer; leave it out")
    if judged and not benchmark.stages:
        say(f"{benchmark.name} asks no judge")
    stages = benchmark.stages if judged else ()
    told = prompts.load(stages, given.judge_prompt)
    notes = [f"the data is not as published: {fault}" for fault in data_files.faults(benchmark.name, folder)]
    items = benchmark.items(folder)
    if not items:
        raise UserError(f"{folder} holds no questions of {benchmark.name}")
    extractor = _extractor(given.extractor) if benchmark.extracts else None
    if not given.dry_run:
        make_folder(output, "--output")
    with ExitStack() as stack:
        judge = _judge(given, output, stack) if stages and _is_first(given) else None
        tools = Tools(given.mode, judge, extractor, told.texts, given.swap_order)
        answers = _answers(given, benchmark, items, folder, output)
        if given.dry_run:
            _rehearse(benchmark, answers.rows, tools, given.repeat)
            return 0, {}
        if not _is_first(given):
            return 0, {}
        from eval.run import Run, score, tell

        what = Run(
            benchmark,
            folder,
            _answers_file(given, benchmark, output),
            answers.sha256,
            output,
            tools,
            told,
            given.repeat,
            given.allow_partial,
            asdict(generation_of(given)) if given.model else None,
            notes,
            given.seed,
        )
        report = score(what, answers.rows)
    return (0 if tell(report, output) else 1), report


def _answers(
    given: argparse.Namespace, benchmark: Benchmark, items: Sequence[Item], folder: Path, output: Path
) -> Answers:
    if given.model and given.dry_run:
        return Answers([Row(item, "word " * 80) for item in items], "")  # about as long as an answer is
    if given.model:
        from eval.generation import answer

        answer(items, folder, output, generation_of(given), first=_is_first(given))
        if not _is_first(given):
            return Answers([], "")  # it may still be written
    return read(_answers_file(given, benchmark, output), items)


def _answers_file(given: argparse.Namespace, benchmark: Benchmark, output: Path) -> Path:
    if given.model:
        return output / "answers.jsonl"
    file: Path = given.answers / f"{benchmark.name}.jsonl" if given.verb == "all" else given.answers
    return file


def _extractor(name: str) -> Any:
    from eval.objects.extractors import make_extractor

    return make_extractor(name)


def _judge(given: argparse.Namespace, output: Path, stack: ExitStack) -> Judge:
    from eval.judge.cache import ReplyCache
    from eval.judge.local import LocalJudge, LocalOptions
    from eval.judge.server import JudgeOptions, ServerJudge

    cache = stack.enter_context(ReplyCache(output / "replies.jsonl", read_only=given.dry_run))
    if given.judge_local:
        local = LocalOptions(given.judge_local, dtype=given.dtype, seed=given.seed, parse_retries=given.parse_retries)
        return LocalJudge(local, cache)
    names = ("concurrency", "requests_per_minute", "retries", "timeout", "parse_retries", "require_model")
    options = {name: getattr(given, name) for name in (*names, "system_as_user")}
    return ServerJudge(JudgeOptions(given.judge_server or "", given.judge_model, **options), cache)


def _rehearse(benchmark: Benchmark, rows: Iterable[Row], tools: Tools, repeat: int) -> None:
    from eval.judge.rehearsal import rehearse

    for line in rehearse(benchmark, rows, tools, repeat):
        print(line)
