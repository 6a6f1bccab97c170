"""How far two labelers agree, and how far one's probabilities can be taken at their word."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Of two labelers on claims that both have judged. both, first, second, neither: claims that both accept, one alone
    or none. apart: mean of |P(yes) - P(yes)|."""

    both: int
    first: int
    second: int
    neither: int
    apart: float

    @property
    def claims(self) -> int:
        return self.both + self.first + self.second + self.neither

    @property
    def raw(self) -> float | None:
        """Share of equal verdicts."""
        return (self.both + self.neither) / self.claims if self.claims else None

    @property
    def kappa(self) -> float | None:
        """Cohen's: agreement beyond what two labelers with these rates of yes have by chance (Cohen 1960). None where
        chance leaves nothing to agree on."""
        if self.raw is None:
            return None
        yes = (self.both + self.first) / self.claims, (self.both + self.second) / self.claims
        chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
        return (self.raw - chance) / (1 - chance) if chance < 1 else None


def agreement(chances: np.ndarray, accepted: np.ndarray) -> Agreement:
    """chances: float64[2, claims], nan for no verdict. accepted: bool[2, claims]."""
    judged = ~np.isnan(chances).any(0)
    one, other = accepted[:, judged]
    apart = np.abs(np.subtract(*chances[:, judged]))
    return Agreement(
        int((one & other).sum()),
        int((one & ~other).sum()),
        int((~one & other).sum()),
        int((~one & ~other).sum()),
        float(apart.mean()) if len(apart) else 0.0,
    )


@dataclass(frozen=True)
class Bin:
    """Claims with P(yes) in [low, high), the last bin with its end: how many, their mean P(yes), the share that is
    true."""

    low: float
    high: float
    claims: int
    chance: float
    true: float


@dataclass(frozen=True)
class Calibration:
    """Against what is taken for true, on claims where both are known. right: share of right verdicts. accepted_true,
    rejected_false: of the true and of the false claims, None where there are none. error: expected calibration error,
    the mean over claims of |mean P(yes) - share that is true| of their bin (arXiv 1706.04599, of P(yes) instead of the
    confidence). brier: mean of (P(yes) - truth)²."""

    claims: int
    right: float
    accepted_true: float | None
    rejected_false: float | None
    error: float
    brier: float
    bins: tuple[Bin, ...]


def calibration(chances: np.ndarray, accepted: np.ndarray, truth: np.ndarray, bins: int) -> Calibration | None:
    """chances: float64[claims], nan for no verdict. accepted: bool[claims]. truth: int8[claims], -1 for unknown. bins:
    of equal width. None where there is nothing to compare."""
    known = ~np.isnan(chances) & (truth >= 0)
    if not known.any():
        return None
    chances, accepted, true = chances[known], accepted[known], truth[known] == 1
    places = np.minimum((chances * bins).astype(int), bins - 1)
    found = []
    for place in np.unique(places):
        here = places == place
        low, high = place / bins, (place + 1) / bins
        found.append(Bin(low, high, int(here.sum()), float(chances[here].mean()), float(true[here].mean())))
    return Calibration(
        len(chances),
        float((accepted == true).mean()),
        float(accepted[true].mean()) if true.any() else None,
        float((~accepted[~true]).mean()) if not true.all() else None,
        sum(one.claims * abs(one.chance - one.true) for one in found) / len(chances),
        float(((chances - true) ** 2).mean()),
        tuple(found),
    )
