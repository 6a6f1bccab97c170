"""Hallucination by round and checkpoint: what the rounds measured, and the summary of a demo."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.errors import UserError
from rlaifv_jax.report.charts import Chart, Line
from rlaifv_jax.report.find import Found
from rlaifv_jax.report.reading import Json, is_number, read_object

NORMAL = 1.959963984540054  # quantile 0.975 of the normal distribution

# Numbers of rlaifv_jax.selection and rlaifv_jax.shapes.selection: title, whether a share of answers (which the interval
# is for), whether it belongs into the figure for papers.
KNOWN: Mapping[str, tuple[str, bool, bool]] = {
    "response_hallucination": ("Answers with a false claim", True, True),
    "answers_with_a_rejected_claim": ("Answers with a rejected claim", True, True),
    "mention_hallucination": ("Claims that are false", False, False),
    "claims_rejected": ("Claims that are rejected", False, False),
    "recall": ("True things that are stated", False, False),
    "answers_without_a_claim": ("Answers without a claim", True, False),
}
INTERVAL = "Bars: 95 % of Wilson's interval over {} answers; they tell nothing of other seeds."


@dataclass(frozen=True)
class Account:
    """What state.json tells of a round. name: 'round 2', behind that of its folder where rounds lie in several."""

    name: str
    values: Json


@dataclass(frozen=True)
class Measured:
    """A checkpoint of a round and its numbers. round: its name. series: its place among all rounds, from 0. chosen:
    whether the next round starts from it."""

    round: str
    series: int
    step: str
    values: Mapping[str, float]
    chosen: bool

    @property
    def name(self) -> str:
        return f"{self.round}, step {self.step}"


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's interval (1927) at 95 % of a share of `count` independent things; count above 0."""
    z2 = NORMAL**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def read_rounds(found: Found) -> list[Account]:
    """The accounts of all rounds. Raises `UserError` where state.json is damaged."""
    rounds = []
    for place in found.rounds:
        file = place.directory / "state.json"
        state = read_object(file)
        if not isinstance(state.get("rounds"), list) or not all(isinstance(one, dict) for one in state["rounds"]):
            raise UserError(f"{file} has no list of rounds; restore it, or move it away")
        of = f"{place.name}, " if len(found.rounds) > 1 else ""
        rounds += [Account(f"{of}round {number}", values) for number, values in enumerate(state["rounds"], 1)]
    return rounds


def measured(rounds: Sequence[Account]) -> list[Measured]:
    """Every checkpoint that has numbers, in order."""
    return [
        Measured(account.name, series, step, values, str(account.values.get("chosen")) == step)
        for series, account in enumerate(rounds)
        for step, values in sorted((account.values.get("measured") or {}).items(), key=lambda item: int(item[0]))
        if isinstance(values, dict) and all(map(is_number, values.values()))
    ]


def by_checkpoint(checkpoints: Sequence[Measured]) -> list[Chart]:
    """Charts of all known numbers, a line a round; of `score` where none is known."""
    there = {name for each in checkpoints for name in each.values}
    names = [name for name in KNOWN if name in there] or (["score"] if "score" in there else [])
    return [_checkpoints(name, [each for each in checkpoints if name in each.values]) for name in names]


def _checkpoints(name: str, checkpoints: Sequence[Measured]) -> Chart:
    title, of_answers, main = KNOWN.get(name, (f"Selection's {name}", False, True))
    lines = []
    for round, series in dict.fromkeys((each.round, each.series) for each in checkpoints):
        places = [place for place, each in enumerate(checkpoints) if each.series == series]
        values = [checkpoints[place].values[name] for place in places]
        counts = [checkpoints[place].values.get("answers", 0) for place in places] if of_answers else []
        lines.append(_line(round, places, values, counts, series))
    several = len(lines) > 1
    heads = [f"{each.round.replace('round ', '')}: " if several else "" for each in checkpoints]
    ticks = [f"{head}{each.step}{' ★' * each.chosen}" for head, each in zip(heads, checkpoints, strict=True)]
    answers = {int(each.values["answers"]) for each in checkpoints if "answers" in each.values}
    note = f"{'Round: step' if several else 'Step'}; ★ is the checkpoint that was chosen."
    if lines[0].low is not None:
        note += " " + INTERVAL.format(_range(answers))
    return Chart(f"{title}, by checkpoint", "step", tuple(lines), tuple(ticks), name in KNOWN, note, main)


def stages(summary: Json) -> list[Chart]:
    """Of a demo: rates on scenes that nobody has seen, from model to model."""
    models = {name.replace("_", " "): values for name, values in _objects(summary.get("stages"))}
    charts = []
    count = _scenes(summary)
    for name, (title, of_answers, main) in KNOWN.items():
        if models and all(is_number(values.get(name)) for values in models.values()):
            values = [float(each[name]) for each in models.values()]
            line = _line("models", range(len(models)), values, [count] * len(values) if of_answers else [], 0, "points")
            note = INTERVAL.format(count) if of_answers else f"Of {count} held-out scenes."
            if best := [each for each in models if each.startswith("best of")]:
                note += f" Models write their likeliest answer; {best[0]}: chosen from as many that the first draws."
            charts.append(Chart(f"{title}, by model", "model", (line,), tuple(models), True, note, main))
    return charts


def best_of_n(summary: Json) -> list[Chart]:
    """Of a demo: rates of the best of N answers, by way of choosing."""
    count = _scenes(summary)
    ways = [(way, values) for way, values in _objects(summary.get("best_of_n")) if all(map(is_number, values.values()))]
    if not ways:
        return []
    lines = [
        Line(
            f"chosen by {way}",
            np.array([float(n) for n in values]),
            np.array(list(values.values()), float),
            series,
            "dashed" if series else "line",
        )
        for series, (way, values) in enumerate(ways)
    ]
    note = (
        f"The best of N answers that the starting model draws, {count} held-out scenes. One that is drawn is not its "
        "likeliest, which is what the charts by model show."
    )
    return [Chart("Answers with a false claim, best of N", "N", tuple(lines), (), True, note, logarithmic=True)]


def _scenes(summary: Json) -> int:
    count = summary.get("held_out_scenes")
    return int(count) if is_number(count) else 0


def _objects(value: object) -> Iterator[tuple[str, Json]]:
    for name, each in value.items() if isinstance(value, dict) else ():
        if isinstance(each, dict):
            yield str(name), each


def _line(
    label: str, x: Sequence[int], y: Sequence[float], counts: Sequence[float], series: int, style: str = "line"
) -> Line:
    """With an interval where it is known of how many answers each value is a share."""
    low, high = None, None
    if counts and all(count > 0 for count in counts):
        found = np.array([wilson(value, count) for value, count in zip(y, counts, strict=True)])
        low, high = found[:, 0], found[:, 1]
    return Line(label, np.array(x, float), np.array(y, float), series, style, low, high)


def _range(counts: set[int]) -> str:
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
