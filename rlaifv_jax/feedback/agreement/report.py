"""What is found about labelers, as tables for a terminal, Markdown and JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rlaifv_jax.feedback.agreement.claims import Judgements, identity, records_at
from rlaifv_jax.feedback.agreement.measures import Agreement, Calibration, agreement, calibration

Table = tuple[str, list[list[str]]]  # title, rows with the heading first


@dataclass(frozen=True)
class Findings:
    """judgements: of all labelers. pairs: by places of two labelers. against: what calibration is against, '' for
    nothing. calibrations: by place, None where there is nothing to compare. apart: the claims that they differ most
    about, the worst first, with everybody's P(yes)."""

    judgements: Judgements
    pairs: dict[tuple[int, int], Agreement]
    against: str
    calibrations: dict[int, Calibration | None]
    apart: list[dict[str, Any]]


def compare(judgements: Judgements, reference: int | None, bins: int, most: int) -> Findings:
    """reference: place of the labeler whose verdicts are taken for true, where no truth is given; None: nobody's.
    bins: of the reliability table. most: claims of `Findings.apart`."""
    chances, accepted, count = judgements.chances, judgements.accepted, len(judgements.labelers)
    pairs = {
        places: agreement(chances[list(places)], accepted[list(places)]) for places in combinations(range(count), 2)
    }
    truth, against = judgements.truth, "the given labels"
    if truth is None and reference is not None:
        truth = np.where(judgements.judged[reference], accepted[reference], -1)
        against = judgements.labelers[reference].name
    calibrations = (
        {}
        if truth is None
        else {
            place: calibration(chances[place], accepted[place], truth, bins)
            for place in range(count)
            if place != reference
        }
    )
    return Findings(judgements, pairs, "" if truth is None else against, calibrations, _apart(judgements, most))


def _apart(judgements: Judgements, most: int) -> list[dict[str, Any]]:
    """Of claims about which verdicts differ, those with the widest range of P(yes)."""
    judged, accepted = judgements.judged, judgements.accepted
    differ = (accepted & judged).any(0) & (~accepted & judged).any(0)
    rows = np.flatnonzero(differ)
    spread = np.nanmax(judgements.chances[:, rows], 0) - np.nanmin(judgements.chances[:, rows], 0)
    rows = rows[np.argsort(-spread, kind="stable")[:most]]
    records = dict(zip(sorted(rows), records_at(judgements.labelers[0].path, rows.tolist()), strict=True))
    return [
        {
            "record": int(row),
            **{name: identity(records[row])[name] for name in ("question_id", "ds_question_id", "claim")},
            "p_yes": [None if np.isnan(value) else float(value) for value in judgements.chances[:, row]],
            **({} if judgements.truth is None or judgements.truth[row] < 0 else {"truth": bool(judgements.truth[row])}),
        }
        for row in rows
    ]


# ---------------------------------------------------------------- tables


def tables(found: Findings) -> list[Table]:
    """In the order they are read."""
    made = [("Labelers", _labelers(found)), ("Agreement", _pairs(found))]
    if found.against:
        made.append((f"Reliability, against {found.against}", _bins(found)))
    if found.apart:
        made.append(("Where they differ most, P(yes)", _claims(found)))
    return [(title, rows) for title, rows in made if len(rows) > 1]


def _labelers(found: Findings) -> list[list[str]]:
    given = found.judgements
    heading = ["labeler", "claims", "no verdict", "accepted", "mean P(yes)", "claims/s"]
    if found.against:
        heading += ["right", "true accepted", "false rejected", "calibration error", "Brier"]
    rows = [heading]
    for place, labeler in enumerate(given.labelers):
        judged = given.judged[place]
        share = given.accepted[place][judged].mean() if judged.any() else None
        mean = given.chances[place][judged].mean() if judged.any() else None
        speed = "–" if labeler.speed is None else f"{labeler.speed:.3g}"
        row = [labeler.name, str(judged.size), str(int((~judged).sum())), _percent(share), _number(mean), speed]
        if found.against:
            one = found.calibrations.get(place)
            row += (
                ["–"] * 5
                if one is None
                else [
                    *(_percent(value) for value in (one.right, one.accepted_true, one.rejected_false)),
                    _number(one.error),
                    _number(one.brier),
                ]
            )
        rows.append(row)
    return rows


def _pairs(found: Findings) -> list[list[str]]:
    rows = [["labelers", "claims", "agree", "kappa", "only the first accepts", "only the second", "mean |ΔP|"]]
    names = [labeler.name for labeler in found.judgements.labelers]
    for (one, other), pair in found.pairs.items():
        counts = [str(pair.first), str(pair.second), _number(pair.apart if pair.claims else None)]
        rows.append(
            [f"{names[one]} – {names[other]}", str(pair.claims), _percent(pair.raw), _number(pair.kappa), *counts]
        )
    return rows


def _bins(found: Findings) -> list[list[str]]:
    rows = [["labeler", "P(yes)", "claims", "mean P(yes)", "true"]]
    for place, one in found.calibrations.items():
        name = found.judgements.labelers[place].name
        for each in one.bins if one else ():
            between = f"{each.low:.2f}–{each.high:.2f}"
            rows.append([name, between, str(each.claims), _number(each.chance), _percent(each.true)])
    return rows


def _claims(found: Findings) -> list[list[str]]:
    heading = ["claim", "question_id", *(labeler.name for labeler in found.judgements.labelers)]
    truth = found.judgements.truth is not None
    rows = [[*heading, "truth"] if truth else heading]
    for each in found.apart:
        row = [" ".join(str(each["claim"]).split()), str(each["question_id"]), *map(_number, each["p_yes"])]
        rows.append([*row, {None: "–", True: "yes", False: "no"}[each.get("truth")]] if truth else row)
    return rows


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


# ---------------------------------------------------------------- forms


def as_text(made: Sequence[Table]) -> str:
    """For a terminal: columns, the first to the left."""
    lines = []
    for title, rows in made:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [title, "─" * len(title)]
        for first, *rest in rows:
            cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
            lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
        lines.append("")
    return "\n".join(lines)


def as_markdown(made: Sequence[Table], chart: str) -> str:
    """chart: name of the diagram's file beside it, '' for none."""
    lines = ["# Labelers on the same claims", ""]
    for title, rows in made:
        cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        heading, *rest = cells
        ruler = ["---", *["---:"] * (len(heading) - 1)]
        lines += [f"## {title}", "", *(f"| {' | '.join(row)} |" for row in (heading, ruler, *rest)), ""]
    return "\n".join([*lines, f"![reliability diagram]({chart})", ""] if chart else lines)


def as_json(found: Findings) -> dict[str, Any]:
    """All of it."""
    given = found.judgements
    return {
        "claims": given.chances.shape[1],
        "labelers": [
            {
                "name": labeler.name,
                "path": labeler.path,
                "claims_per_second": labeler.speed,
                "without_verdict": int((~given.judged[place]).sum()),
                "accepted": int(given.accepted[place].sum()),
            }
            for place, labeler in enumerate(given.labelers)
        ],
        "pairs": [
            {"labelers": list(places), **asdict(pair), "agreement": pair.raw, "kappa": pair.kappa}
            for places, pair in found.pairs.items()
        ],
        "calibration": {
            "against": found.against or None,
            "labelers": [
                {"labeler": place, **asdict(one)} for place, one in found.calibrations.items() if one is not None
            ],
        },
        "differ_most": found.apart,
    }
