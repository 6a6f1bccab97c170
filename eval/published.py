"""Figures that papers state, to stand beside one's own and be marked as theirs.

Judges and extractors differ between papers, and have been retired since: a difference of a point or two says nothing,
and no figure of another judge belongs into one's own table without this word.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """model: as the paper calls it. figures: benchmark → metric → value. source: where they stand."""

    model: str
    figures: dict[str, dict[str, float]]
    source: str


V1, V2 = "RLAIF-V, arXiv 2405.17220v1", "RLAIF-V, arXiv 2405.17220v2"
TPR = "TPR, arXiv 2411.17265, Table 1"


def _halbench(response: float, mention: float) -> dict[str, dict[str, float]]:
    return {"object_halbench": {"Response Hall": response, "Object Hall": mention}}


def _mmhal(score: float, rate: float) -> dict[str, dict[str, float]]:
    return {"mmhal": {"Average score": score, "Hallucination rate": rate}}


def _amber(accuracy: float, f1: float) -> dict[str, dict[str, float]]:
    return {"amber_discriminative": {"Accuracy": accuracy, "F1": f1}}


def _refomb(trust: float, win: float) -> dict[str, dict[str, float]]:
    return {"refomb": {"Trust.": trust, "Win.": win}}


def _stars(percent: float) -> dict[str, dict[str, float]]:
    return {"mmstar": {"final score": percent}}


PUBLISHED: tuple[Published, ...] = (
    Published(
        "LLaVA-1.5-7B",
        _halbench(53.6, 25.2) | _mmhal(2.36, 51.0) | _amber(73.5, 77.6) | _refomb(30.8, 12.1) | _stars(30.3),
        V1,
    ),
    Published("LLaVA-1.5-7B", _halbench(54.5, 27.8) | _amber(73.5, 77.7), V2),
    Published(
        "RLAIF-V-7B",
        _halbench(8.5, 4.3) | _mmhal(3.06, 29.2) | _amber(76.8, 84.5) | _refomb(47.5, 20.7) | _stars(31.8),
        V1,
    ),
    Published("RLAIF-V-7B", _halbench(10.5, 5.2) | _amber(76.8, 84.5), V2),
    Published("RLAIF-V-7B, best of N", _halbench(6.8, 3.8), V2),
    Published("OmniLMM-12B", _halbench(19.4, 10.9) | _amber(86.5, 89.5), V2),
    Published("RLAIF-V-12B", _halbench(4.5, 2.9) | _amber(88.0, 90.9), V2),
    Published("GPT-4V", _halbench(13.6, 7.3) | _mmhal(3.49, 28.0) | _amber(83.4, 87.4), V2),
    Published(
        "RLHF-V-13B",
        _halbench(12.2, 7.5) | _mmhal(2.45, 51.0) | _amber(72.6, 75.0) | _refomb(41.4, 17.7) | _stars(33.2),
        TPR,
    ),
    Published(
        "LLaVA-RLHF-13B",
        _halbench(38.1, 18.9) | _mmhal(2.02, 62.5) | _amber(79.7, 83.9) | _refomb(26.3, 17.2) | _stars(34.2),
        TPR,
    ),
    Published(
        "Silkie-10B",
        _halbench(27.1, 13.4) | _mmhal(3.19, 32.3) | _amber(82.2, 87.6) | _refomb(38.9, 21.2) | _stars(33.6),
        TPR,
    ),
    Published(
        "POVID-7B",
        _halbench(48.1, 24.4) | _mmhal(2.08, 56.2) | _amber(82.9, 87.4) | _refomb(44.4, 13.6) | _stars(34.3),
        TPR,
    ),
    Published(
        "HA-DPO-7B",
        _halbench(39.9, 19.9) | _mmhal(1.98, 60.4) | _amber(75.2, 79.9) | _refomb(39.9, 17.2) | _stars(32.9),
        TPR,
    ),
    Published("LLaVA-1.5-7B", {"pope": {"F1": 85.9}, "llava_bench_wild": {"all": 65.4}}, "LLaVA's model zoo"),
    Published(
        "LLaVA-1.5-7B",
        {"amber_generative": {"CHAIR": 7.8, "Cover": 51.0, "Hal": 36.4, "Cog": 4.2}},
        "mDPO, arXiv 2406.11839",
    ),
    Published(
        "GPT-4V",
        {"amber_generative": {"CHAIR": 4.6, "Cover": 67.1, "Hal": 30.7, "Cog": 2.6}},
        "mDPO, arXiv 2406.11839",
    ),
)
