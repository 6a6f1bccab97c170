"""The demo's chart: hallucination and recall from round to round, and what the best of N answers does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.shapes.measure import Measurement

FALSE, TRUE, OTHER = "#b3261e", "#1a6b3c", "#6b6b6b"


def draw_chart(
    file: Path,
    stages: Mapping[str, Measurement],
    numbers: Sequence[int],
    curves: Mapping[str, Sequence[Measurement]],
) -> None:
    """Write a PNG of two panels.

    Args:
      stages: greedy captions of each model, by name. numbers: N of the second panel. curves: the best of N answers of
        the first model, by way of choosing.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = [name.replace("_", " ") for name in stages]
    for label, key, color, marker, above in (
        ("captions with a false claim", "response_hallucination", FALSE, "o", 7),
        ("claims that are false", "mention_hallucination", OTHER, "s", -14),
        ("true things that are stated", "recall", TRUE, "^", 7),
    ):
        values = [100 * getattr(found, key) for found in stages.values()]
        left.plot(names, values, color=color, marker=marker, label=label)
        for name, value in zip(names, values, strict=True):
            _write(left, name, value, above)
    left.set_title("one greedy caption of each unseen scene")
    left.set_ylabel("%")
    left.set_ylim(-9, 109)
    left.legend(fontsize=8, loc="center right")
    for (way, measured), color, style, above in zip(
        curves.items(), (FALSE, OTHER), ("-", "--"), (-14, 7), strict=False
    ):
        values = [100 * found.response_hallucination for found in measured]
        right.plot(range(len(numbers)), values, color=color, linestyle=style, marker="o", label=f"chosen by {way}")
        for place, value in enumerate(values):
            _write(right, place, value, above)
    right.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    right.set_xlabel("N answers of the base model, drawn at temperature 1")
    right.set_title("captions with a false claim, the best of N")
    right.set_ylabel("%")
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(file, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


def _write(axes: Any, place: Any, value: float, above: int) -> None:
    """The number at a point, so many points above it."""
    axes.annotate(f"{value:.1f}", (place, value), (0, above), textcoords="offset points", ha="center", fontsize=8)
