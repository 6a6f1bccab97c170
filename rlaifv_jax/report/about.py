"""With what a run was made: config, hardware, versions, seeds; and where its time went."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaifv_jax.config_keys import flat_config
from rlaifv_jax.data.faults import REASONS
from rlaifv_jax.machines import read_machines
from rlaifv_jax.records.shards import MANIFEST
from rlaifv_jax.report.charts import percent
from rlaifv_jax.report.curves import Column
from rlaifv_jax.report.feedback import Feedback
from rlaifv_jax.report.find import Place
from rlaifv_jax.report.hallucination import Account
from rlaifv_jax.report.reading import Json, read_lines, read_object

SET_BY_ROUNDS = ("model.path", "data.path", "output_dir", "seed")  # in the config of training, round by round
VERSIONED = ("divide", "question", "score", "pairs")  # stages whose manifests name versions


@dataclass(frozen=True)
class Config:
    """changed: keys whose value is not the default of configs/`base`, with both. whole: as JSON."""

    name: str
    base: str
    changed: Sequence[tuple[str, str, str]]
    whole: str


@dataclass(frozen=True)
class Table:
    """first column of rows: what it is about."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


def configs(runs: Sequence[Place], rounds: Sequence[Place]) -> list[Config]:
    """Of rounds where there are some, which hold those of their training; else of every run."""
    from configs import base, iterate_base

    if rounds:
        found = [(place, read_object(place.directory / "state.json").get("config")) for place in rounds]
        defaults, name = iterate_base.get_config().to_dict(), "iterate_base.py"
    else:
        files = [(place, place.directory / "config.json") for place in runs]
        found = [(place, read_object(file)) for place, file in files if file.exists()]
        defaults, name = base.get_config().to_dict(), "base.py"
    plain = flat_config(json.loads(json.dumps(defaults)))
    own = {f"training.{key}" for key in SET_BY_ROUNDS} if rounds else set()
    return [
        Config(
            place.name,
            name,
            list(_changed(plain, flat_config(config), own)),
            json.dumps(config, indent=2),
        )
        for place, config in found
        if isinstance(config, dict)
    ]


def _changed(
    defaults: Mapping[str, Any], config: Mapping[str, Any], skipped: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    for key, value in config.items():
        if key in skipped:
            continue
        if key not in defaults:
            yield key, _value(value), "–"
        elif value != defaults[key]:
            yield key, _value(value), _value(defaults[key])


def _value(value: Any) -> str:
    return value or "empty" if isinstance(value, str) else json.dumps(value)


def facts(
    runs: Sequence[tuple[Place, Mapping[str, Column]]], found: Sequence[Feedback], rounds: Sequence[Place]
) -> list[tuple[str, str]]:
    """Hardware, versions, seeds, models, name by name."""
    starts = [start for place, _ in runs for start in read_machines(place.directory) or []]
    pairs = list(_of_starts(starts)) + list(_of_configs(runs, rounds))
    pairs += [("Labeler", name) for name in _values(found, "score", "model")]
    versions = [start.get("versions") or {} for start in starts] + list(_versions(found))
    for library in dict.fromkeys(name for each in versions for name in each):
        pairs.append((library, _joined(each.get(library) for each in versions)))
    return [(name, text) for name, text in pairs if text]


def _of_starts(starts: Sequence[Json]) -> Iterator[tuple[str, str]]:
    yield "Devices", _joined(_devices(start) for start in starts)
    yield "System", _joined(start.get("system") for start in starts)
    if any(start.get("step") for start in starts):
        steps = ", ".join(str(start["step"]) for start in starts if start.get("step"))
        yield "Went on behind step", steps


def _devices(start: Json) -> str:
    devices = start.get("devices")
    told = ", ".join(f"{count} × {kind}" for kind, count in devices.items()) if isinstance(devices, dict) else ""
    processes, cores = start.get("processes"), start.get("cores")
    if told and processes:
        told += f" in {processes} process{'es' if processes != 1 else ''}"
    return f"{told}, {cores} CPU cores a host" if told and cores else told


def _of_configs(runs: Sequence[tuple[Place, Any]], rounds: Sequence[Place]) -> Iterator[tuple[str, str]]:
    files = [place.directory / "config.json" for place, _ in runs]
    configs = [read_object(file) for file in files if file.exists()]
    whole = [read_object(place.directory / "state.json").get("config") or {} for place in rounds]
    yield "Seed", _joined(config.get("seed") for config in whole or configs)
    if whole and configs:
        yield "Seeds of the rounds' training", _joined(config.get("seed") for config in configs)
    yield "Starting model", _joined((config.get("model") or {}).get("path") for config in whole or configs)
    if not whole:
        yield "Data", _joined((config.get("data") or {}).get("path") for config in configs)


def _versions(found: Sequence[Feedback]) -> Iterator[Json]:
    for each in found:
        for stage in VERSIONED:
            file = each.directory / stage / MANIFEST
            if file.exists():
                yield (read_object(file).get("notes") or {}).get("versions") or {}


def _values(found: Sequence[Feedback], stage: str, key: str) -> list[str]:
    files = [each.directory / stage / MANIFEST for each in found]
    return list(dict.fromkeys(str(value) for file in files if file.exists() and (value := read_object(file).get(key))))


def _joined(values: Any) -> str:
    """Each once."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def time_of_rounds(rounds: Sequence[Account]) -> Table | None:
    """Seconds of every step."""
    seconds = {account.name: account.values.get("seconds") or {} for account in rounds}
    steps = list(dict.fromkeys(step for each in seconds.values() for step in each))
    if not steps:
        return None
    rows = [
        [name, *(duration(each.get(step)) for step in steps), duration(sum(each.values()))]
        for name, each in seconds.items()
    ]
    return Table(["", *steps, "together"], rows)


def time_of_training(runs: Sequence[tuple[Place, Mapping[str, Column]]]) -> Table | None:
    """Where the wall time of every training run went, and its speed."""
    known: dict[str, Any] = {
        "steps": lambda columns: _largest(columns, "step", "{:,.0f}".format),
        "wall time": lambda columns: duration(_end(columns, "seconds_since_first_start")),
        "in steps": lambda columns: duration(_end(columns, "useful_seconds")),
        "goodput": lambda columns: _last(columns, "goodput", percent),
        "checkpoints": lambda columns: duration(_sum(columns, "checkpoint_seconds")),
        "evaluations": lambda columns: duration(_sum(columns, "evaluation_seconds")),
        "tokens a second": lambda columns: _median(columns, "tokens_per_second", "{:,.0f}".format),
        "MFU": lambda columns: _median(columns, "mfu", percent),
        "most memory": lambda columns: _largest(columns, "hbm_peak_gib", "{:.1f} GiB".format),
    }
    rows = [[place.name, *(tell(columns) for tell in known.values())] for place, columns in runs if columns]
    told = [number for number in range(len(known)) if any(row[number + 1] != "–" for row in rows)]
    if not told:
        return None
    heading = ["", *(list(known)[number] for number in told)]
    return Table(heading, [[row[0], *(row[number + 1] for number in told)] for row in rows])


def _end(columns: Mapping[str, Column], name: str) -> float | None:
    return float(columns[name][1][-1]) if name in columns else None


def _sum(columns: Mapping[str, Column], name: str) -> float | None:
    return float(np.nansum(columns[name][1])) if name in columns else None


def _last(columns: Mapping[str, Column], name: str, form: Callable[[float], str]) -> str:
    return form(columns[name][1][-1]) if name in columns else "–"


def _median(columns: Mapping[str, Column], name: str, form: Callable[[float], str]) -> str:
    return form(np.nanmedian(columns[name][1])) if name in columns else "–"


def _largest(columns: Mapping[str, Column], name: str, form: Callable[[float], str]) -> str:
    return form(np.nanmax(columns[name][1])) if name in columns else "–"


def duration(seconds: float | None) -> str:
    """For people: 0.42 s, 12.3 s, 3 min 4 s, 5 h 12 min; – for what is not known."""
    if seconds is None or not np.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.{1 if seconds >= 1 or seconds == 0 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def left_out(runs: Sequence[Place]) -> Table | None:
    """Rows that training did not use, by reason."""
    reasons = [
        Counter(str(row.get("reason")) for row in read_lines(place.directory / "bad_rows.jsonl"))
        if (place.directory / "bad_rows.jsonl").exists()
        else Counter[str]()
        for place in runs
    ]
    names = sorted({name for counts in reasons for name in counts}, key=lambda name: -sum(c[name] for c in reasons))
    if not names:
        return None
    shown = [(place.name, counts) for place, counts in zip(runs, reasons, strict=True) if counts]
    rows = [[REASONS.get(name, name), *(f"{counts[name]:,}" for _, counts in shown)] for name in names]
    return Table(["", *(name for name, _ in shown)], rows)
