"""The reliability diagram of labelers."""

from collections.abc import Mapping
from pathlib import Path

from rlaifv_jax.feedback.agreement.measures import Calibration


def draw_reliability(file: Path, calibrations: Mapping[str, Calibration], against: str) -> None:
    """Write a PNG: above, P(yes) against the share that is true; below, how many claims have such a P(yes).

    calibrations: by labeler. against: what is taken for true. Raises `ImportError` without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(6, 7), layout="constrained", sharex=True, height_ratios=(3, 1)
    )
    above.plot([0, 1], [0, 1], color="#6b6b6b", linestyle=":", linewidth=1)
    for name, found in calibrations.items():
        label = f"{name}: calibration error {found.error:.3f}"
        chances = [each.chance for each in found.bins]
        (line,) = above.plot(chances, [each.true for each in found.bins], marker="o", label=label)
        claims = [each.claims for each in found.bins]
        below.plot(chances, claims, marker="o", markersize=3, color=line.get_color())
    above.set_ylabel(f"share that is true, by {against}")
    above.set_ylim(-0.03, 1.03)
    above.legend(fontsize=8, loc="lower right")
    below.set_yscale("log")
    below.set_ylim(bottom=0.7)
    below.set_ylabel("claims")
    below.set_xlabel("mean P(yes) of the bin")
    below.set_xlim(-0.03, 1.03)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=130, metadata={"Software": None})
    pyplot.close(figure)
