"""The reference stage: log-probs of the starting model for every pair, computed where they are missing.

DPO compares the policy with the model it started from. That model never changes, so its log-probs are computed
once, with the same forward pass, precision and row shape as training, and kept (see rlaifv_jax.logps_files).
"""

from collections.abc import Iterator

import jax
import numpy as np
import pyarrow as pa
from etils import epath
from jax.experimental import multihost_utils
from tqdm import tqdm

from rlaifv_jax import logps_files, parallel
from rlaifv_jax.cli import say
from rlaifv_jax.data import forms
from rlaifv_jax.errors import UserError
from rlaifv_jax.logps_files import References
from rlaifv_jax.prepare import Run
from rlaifv_jax.run_data import Data
from rlaifv_jax.starting_model import StartingModel
from rlaifv_jax.state import compile_for, trace_logprobs
from rlaifv_jax.stopping import Stop

SAMPLE = 8  # rows of an unsigned cache that are computed again
TOLERANCE = 0.02  # and how far their sums may lie off
Answers = tuple[np.ndarray, np.ndarray]  # log-probs float32[targets] of chosen and rejected
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def obtain(run: Run, model: StartingModel, stop: Stop) -> tuple[References, References]:
    """Reference log-probs of the pairs to learn from and of those held out, if any; computed if they are missing.

    A held-out part of the same source shares the files; another source has its own beside them (…_eval).

    Raises:
      Stopped: the run was asked to end while they were computed; what there was is written.
    """
    path = run.config.reference.path
    directory = epath.Path(path) if path else run.output_dir / "reference"
    whole, *others = run.data.sources
    found = _obtain(run, whole, directory, model, stop)
    if not others:
        return found, found
    return found, _obtain(run, others[0], directory.with_name(directory.name + "_eval"), model, stop)


def _obtain(run: Run, data: Data, directory: epath.Path, model: StartingModel, stop: Stop) -> References:
    fingerprint = run.reference_fingerprint(model.name, data)
    trust = run.config.reference.trust
    shards = logps_files.find_shards(directory)
    for shard in shards:
        if not trust:
            logps_files.check(shard.fingerprint, fingerprint, shard.path)
    if not shards and not run.config.reference.path and data.source.reference(int(data.index.rows[0])):
        return _adopt(run, data, model)
    done = {row for shard in shards for row in shard.rows}
    missing = np.flatnonzero([int(row) not in done for row in data.index.rows])
    if len(missing):
        first = logps_files.next_number(shards)
        _compute(run, data, missing, directory, model, fingerprint, first, stop)
        shards = logps_files.find_shards(directory)
    found = logps_files.read(shards)
    found.check(data.index.rows, data.index.target_counts, directory)
    return found


def _compute(
    run: Run,
    data: Data,
    missing: np.ndarray,
    directory: epath.Path,
    model: StartingModel,
    fingerprint: dict[str, str],
    first_shard: int,
    stop: Stop,
) -> None:
    """Fill `directory` with the log-probs of the `missing` examples, one file of `reference.shard_rows` at a time."""
    main = parallel.is_main()
    if main:
        directory.mkdir(parents=True, exist_ok=True)
    size, written = run.config.reference.shard_rows, 0
    ready: dict[int, Answers] = {}  # by position in the index: computed, not written yet

    def write(shard: int, part: np.ndarray) -> None:
        answers = [ready.pop(int(place)) for place in part]
        if not main:
            return
        path, rows = directory / logps_files.shard_name(shard, len(part)), data.index.rows[part]
        entries = [logps_files.six_values(*pair) for pair in answers]
        if data.source.form.name == forms.RLHF_V:
            before = data.index.prefix_lengths[part] - 1
            table = logps_files.add_to_text(source_table(data, rows), entries, before)
        else:
            before, table = None, logps_files.add_column(source_table(data, rows), entries)
        logps_files.write_shard(path, table, rows, fingerprint, before)

    steps = _forward(run, data, model, missing, stop)
    bar = tqdm(total=len(missing), unit="row", desc="reference log-probs", disable=not main)
    with stop.between_steps(run.mesh):
        for values in steps:
            ready |= values
            bar.update(len(values))
            while written < len(missing):
                part = missing[written : written + size]
                if not all(place in ready for place in part):
                    break
                write(first_shard, part)
                first_shard, written = first_shard + 1, written + len(part)
        if ready:  # asked to end in mid-file
            write(first_shard, np.array(sorted(ready)))
    bar.close()
    multihost_utils.sync_global_devices("reference log-probs are written")
    if stop.reason:
        raise stop.end(f"the reference log-probs that were computed are in {directory}")


def _forward(
    run: Run, data: Data, model: StartingModel, places: np.ndarray, stop: Stop | None = None
) -> Iterator[dict[int, Answers]]:
    """Step by step the log-probs of the examples at `places` in the index of `data`, by place, until the run is asked
    to end. Loads the model and compiles at once."""
    params, frozen = model.params()
    forward = compile_for(run.mesh, trace_logprobs(run, params, frozen))
    wanted = np.zeros(len(data.index), bool)
    wanted[places] = True
    batches = run.one_pass(data, wanted=wanted)

    def found(step: int, values: jax.Array) -> dict[int, Answers]:
        answers = _cut(values, batches.plan(step), data.index.target_counts)
        return {place: answer for place, answer in answers.items() if wanted[place]}

    def steps() -> Iterator[dict[int, Answers]]:
        before: tuple[int, jax.Array] | None = None  # a step that the devices may still be working on
        for step, batch in batches:
            if stop:
                stop.ask()
            values = forward(params, frozen, parallel.put_rows(batch, run.mesh, leading=1))
            if before:
                yield found(*before)
            before = step, values
            if stop and stop.agreed():
                break
        assert before is not None
        yield found(*before)

    return steps()


def _cut(values: jax.Array, plan: list[list[int]], counts: np.ndarray) -> dict[int, Answers]:
    """float32[1, B, R] → the (chosen, rejected) log-probs of every example of the planned rows."""
    found: dict[int, Answers] = {}
    for row, places in zip(np.asarray(values)[0], plan, strict=True):
        start = 0
        for place in places:
            middle, end = start + counts[place, 0], start + counts[place].sum()
            found[place] = (row[start:middle], row[middle:end])
            start = end
    return found


def _adopt(run: Run, data: Data, model: StartingModel) -> References:
    """Use the `logps` column that came with the data (a cache of the original code), after a spot check.

    Raises:
      UserError: the recomputed sums of 8 random rows lie more than 2 % off.
    """
    index = data.index
    answers = []
    for row, (chosen, rejected) in zip(index.rows, index.target_counts, strict=True):
        stored = data.source.reference(int(row))
        if stored is None or len(stored.chosen_tokens) < chosen or len(stored.rejected_tokens) < rejected:
            raise UserError(
                f"data: {data.source.path}, row {row}: its `logps` do not cover the answers; "
                "leave the column out to compute them"
            )
        tails = (stored.chosen_tokens[-chosen:], stored.rejected_tokens[-rejected:])
        answers.append((tails[0].astype(np.float32), tails[1].astype(np.float32)))
    found = References.pack(index.rows, answers)
    found.check(index.rows, index.target_counts, data.source.path)
    if run.config.reference.trust:
        return found
    places = np.sort(np.random.default_rng(run.config.seed).permutation(len(index))[:SAMPLE])
    worst = 0.0
    again: dict[int, Answers] = {}
    for values in _forward(run, data, model, places):
        again |= values
    for place in places:
        for ours, theirs in zip(again[place], answers[place], strict=True):
            off = abs(float(ours.sum()) - float(theirs.sum())) / max(abs(float(ours.sum())), 1e-6)
            worst = max(worst, off) if np.isfinite(off) else np.inf
    if not worst <= TOLERANCE:  # nan is no agreement
        raise UserError(
            f"the `logps` stored in {data.source.path} do not belong to this model: sums of {len(places)} random "
            f"rows computed anew differ by up to {worst:.1%}. Set --config.reference.path=DIR to compute them "
            "there, or --config.reference.trust to use them as they are."
        )
    if parallel.is_main():
        say(
            f"warning: using the `logps` stored in {data.source.path}, which carry no fingerprint; "
            f"{len(places)} random rows computed anew agree within {worst:.2%}"
        )
    return found


def _holds_bytes(column: pa.ChunkedArray) -> bool:
    """Whether every image of the column stands in it, in a struct with a field `bytes`."""
    names = [field.name for field in column.type] if pa.types.is_struct(column.type) else []
    if "bytes" not in names or not pa.types.is_binary(column.type.field("bytes").type):
        return False
    return column.combine_chunks().field("bytes").null_count == 0


def source_table(data: Data, rows: np.ndarray) -> pa.Table:
    """Rows of the source with all their columns, and those of the RLAIF-V schema (or RLHF-V's, if it is that) that it
    lacks.

    An image that the source keeps in another way (a file, base64 text) is written as encoded bytes.
    """
    table = data.source.table(rows)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    if "image" in columns and not _holds_bytes(columns["image"]):
        del columns["image"]
    schema = {
        "ds_name": (pa.string(), lambda e: data.source.path),
        "image": (IMAGE, lambda e: None if e.image is None else {"bytes": e.image, "path": None}),
        "question": (pa.string(), lambda e: e.turns[-1].text),
        "chosen": (pa.string(), lambda e: e.answers[0]),
        "rejected": (pa.string(), lambda e: e.answers[1]),
        "origin_dataset": (pa.string(), lambda e: data.source.path),
        "origin_split": (pa.string(), lambda e: "{}"),
        "idx": (pa.string(), lambda e: e.id),
        "image_path": (pa.string(), lambda e: ""),
    }
    if data.source.form.name == forms.RLHF_V:  # its texts stand in one column
        del schema["question"], schema["chosen"], schema["rejected"]
    lacking = [name for name in schema if name not in columns]
    examples = [data.source.example(int(row), image="image" in lacking) for row in rows] if lacking else []
    for name in lacking:
        kind, value = schema[name]
        columns[name] = pa.array([value(example) for example in examples], kind)
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)
