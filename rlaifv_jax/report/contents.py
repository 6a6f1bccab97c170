"""Everything that a report says, before it is written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaifv_jax.report import about, evaluations, hallucination
from rlaifv_jax.report.about import Config, Table, duration
from rlaifv_jax.report.charts import Chart, percent, shown
from rlaifv_jax.report.curves import Column, curves, read_columns
from rlaifv_jax.report.feedback import (
    Feedback,
    Filter,
    claim_charts,
    filters,
    pair_charts,
    read_feedback,
)
from rlaifv_jax.report.find import Found, Place
from rlaifv_jax.report.hallucination import KNOWN, Account, Measured
from rlaifv_jax.report.reading import Json, is_number, read_object
from rlaifv_jax.report.samples import Comparison, Finder, Sample, compare, pair_samples

Columns = Mapping[str, Column]  # of a run
MOST_RUNS = 8  # curves in a chart


@dataclass(frozen=True)
class Tile:
    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Contents:
    """What is empty or None has no section. legend: names of the runs in the charts of training."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    hallucination: Sequence[Chart]
    checkpoints: Table | None
    comparison: Comparison | None
    training: Sequence[Chart]
    legend: Sequence[str]
    runs_left_out: int
    feedback: Sequence[str]
    filters: Sequence[Filter]
    balances: Sequence[tuple[str, str]]
    means: Table | None
    pairs: Sequence[Chart]
    pair_samples: Sequence[Sample]
    evaluations: Table | None
    evaluation_charts: Sequence[Chart]
    times: Sequence[tuple[str, Table]]
    bad_rows: Table | None
    facts: Sequence[tuple[str, str]]
    configs: Sequence[Config]

    @property
    def figure(self) -> list[Chart]:
        """The charts for papers."""
        charts = [*self.hallucination, *self.evaluation_charts, *self.training, *self.pairs]
        return [chart for chart in charts if chart.main] or charts


def read(found: Found) -> Contents:
    """Read all that is there. Raises `UserError` for the first file that is damaged."""
    runs = [(place, read_columns(place)) for place in found.runs]
    rounds = hallucination.read_rounds(found)
    checkpoints = hallucination.measured(rounds)
    summary = read_object(found.root / "summary.json") if found.demo else {}
    feedback = [read_feedback(place) for place in found.feedback]
    made = [each for each in feedback if each.report or each.pairs]  # where pairs are made
    judged = made or feedback
    metrics = evaluations.read_evaluations(found.evaluations)
    states = [read_object(place.directory / "state.json").get("config") or {} for place in found.rounds]
    questions = _questions(states)
    pictures = Finder(_folders(found, feedback, states, questions), questions)
    drawn = [(place.name, columns) for place, columns in runs if columns]
    stages = hallucination.stages(summary)
    times = [("Rounds", about.time_of_rounds(rounds)), ("Training", about.time_of_training(runs))]
    return Contents(
        title=found.root.resolve().name or "run",
        lead=_lead(runs, rounds, metrics),
        tiles=list(_tiles(runs, rounds, checkpoints, summary)),
        hallucination=[*stages, *hallucination.by_checkpoint(checkpoints), *hallucination.best_of_n(summary)],
        checkpoints=_checkpoints(checkpoints),
        comparison=compare(feedback, pictures),
        training=curves(drawn[:MOST_RUNS]),
        legend=[name for name, _ in drawn[:MOST_RUNS]],
        runs_left_out=max(0, len(drawn) - MOST_RUNS),
        feedback=[each.name for each in made],
        filters=filters(made),
        balances=[(each.name, str(each.report["balance"])) for each in made if each.report.get("balance")],
        means=_means(made),
        pairs=claim_charts(judged)
        + [chart for k, each in enumerate(made) for chart in pair_charts(each, each.name if len(made) > 1 else "", k)],
        pair_samples=pair_samples(made[-1], pictures) if made else [],
        evaluations=evaluations.table(metrics),
        evaluation_charts=evaluations.charts(metrics),
        times=[(name, table) for name, table in times if table],
        bad_rows=about.left_out(found.runs),
        facts=about.facts(runs, feedback, found.rounds),
        configs=about.configs(found.runs, found.rounds),
    )


def _folders(found: Found, feedback: Sequence[Feedback], states: Sequence[Json], questions: Sequence[str]) -> list[str]:
    """Where relative paths of pictures may start: beside the questions, and in every folder from an answer's up to the
    report's own. states: configs of rounds."""
    folders = [file.rpartition("/")[0] for file in questions]
    folders += [str(state.get("feedback", {}).get("image_folder") or "") for state in states]
    for each in feedback:
        place = each.directory
        while len(str(place)) >= len(str(found.root)):
            folders.append(str(place))
            place = place.parent
    return [folder for folder in dict.fromkeys(folders) if folder]


def _questions(states: Sequence[Json]) -> list[str]:
    files = [(state.get("questions"), (state.get("select") or {}).get("questions")) for state in states]
    return [file for pair in files for file in pair if file]


def _lead(runs: Sequence[tuple[Place, Columns]], rounds: Sequence[Account], metrics: Sequence[object]) -> str:
    parts = []
    if rounds:
        done = sum("chosen" in account.values for account in rounds)
        parts.append(
            f"{done} round{'s' * (done != 1)} done" + (f", {len(rounds) - done} under way" * (done < len(rounds)))
        )
    steps = sum(int(columns["step"][1].max()) for _, columns in runs if "step" in columns)
    if steps:
        parts.append(f"{steps:,} training step{'s' * (steps != 1)}")
    if metrics:
        parts.append("with evaluations")
    if not parts:
        parts.append("nothing is logged yet" if runs else "answers, claims and pairs")
    said = ", ".join(parts)
    return said[0].upper() + said[1:] + "."


def _tiles(
    runs: Sequence[tuple[Place, Columns]],
    rounds: Sequence[Account],
    checkpoints: Sequence[Measured],
    summary: Json,
) -> list[Tile]:
    tiles = []
    stages = [(name, values) for name, values in (summary.get("stages") or {}).items() if not name.startswith("best")]
    chosen = [each for each in checkpoints if each.chosen]
    for name, (title, of_answers, _) in KNOWN.items():
        if not of_answers or not name.endswith(("hallucination", "claim")) or name == "answers_without_a_claim":
            continue
        if len(stages) > 1 and all(is_number(values.get(name)) for _, values in stages):
            (_, before), *_, (_, after) = stages
            beside = f"held out, after {stages[-1][0].replace('_', ' ')}; {percent(before[name])} before"
            tiles.append(Tile(title, percent(after[name]), beside))
        elif chosen and name in chosen[-1].values:
            tiles.append(Tile(title, percent(chosen[-1].values[name]), chosen[-1].name))
    columns = runs[-1][1] if runs else {}
    for name, title, form in (
        ("rewards_train/accuracies", "Reward accuracy", percent),
        ("rewards_train/margins", "Reward margin", shown),
        ("loss", "Loss", shown),
    ):
        if name in columns and len(tiles) < 2:
            values = columns[name][1]
            last = values[max(0, len(values) - 10) :]
            beside = f"mean of the last {len(last)} lines" + (f", {runs[-1][0].name}" if len(runs) > 1 else "")
            tiles.append(Tile(title, form(float(last[last == last].mean())) if (last == last).any() else "–", beside))
    seconds = sum(sum((account.values.get("seconds") or {}).values()) for account in rounds)
    if seconds:
        tiles.append(Tile("Time", duration(seconds), f"in {len(rounds)} rounds"))
    elif "seconds_since_first_start" in columns:
        beside = "since the first start"
        if "goodput" in columns:
            beside += f"; goodput {percent(float(columns['goodput'][1][-1]))}"
        tiles.append(Tile("Time", duration(float(columns["seconds_since_first_start"][1][-1])), beside))
    return tiles


def _checkpoints(checkpoints: Sequence[Measured]) -> Table | None:
    """All numbers of the selection."""
    names = list(dict.fromkeys(name for each in checkpoints for name in each.values))
    rows = [
        [
            each.name + (", chosen" if each.chosen else ""),
            *(shown(each.values[name]) if name in each.values else "–" for name in names),
        ]
        for each in checkpoints
    ]
    return Table(["", *(name.replace("_", " ") for name in names)], rows) if rows else None


def _means(made: Sequence[Feedback]) -> Table | None:
    """What the reports of pairs say beside counts."""
    names = dict.fromkeys(name for each in made for name in each.report if is_number(each.report[name]))
    rows = [[name, *(shown(each.report[name]) if name in each.report else "–" for each in made)] for name in names]
    return Table(["", *(each.name for each in made)], rows) if rows else None
