"""The bound of a step's MFU, by arithmetic that can be done by hand."""

import pytest

from launch import chips
from launch.bound import step_bound

CHIP = chips.Chip("toy", "Toy", peak_flops=100.0, hbm_bytes=1e3, hbm_bandwidth=10.0, ici_bandwidth=4.0)


@pytest.mark.parametrize(
    ("executed", "hbm", "hidden", "plain", "seconds"),
    [
        (200.0, 10.0, 4.0, 0.0, 2.0),
        (200.0, 50.0, 4.0, 0.0, 5.0),
        (200.0, 10.0, 12.0, 0.0, 3.0),
        (200.0, 10.0, 4.0, 4.0, 2.0 + 1.0),
        (200.0, 10.0, 4.0, 16.0, 2.0 + 4.0),
    ],
)
def test_the_slowest_unit_and_what_nothing_hides(executed, hbm, hidden, plain, seconds):
    bound = step_bound(CHIP, executed, 150.0, hbm, hidden, plain)
    assert bound.seconds == pytest.approx(seconds)
    assert bound.mfu_bound == pytest.approx(1.5 / seconds)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0, 0), (1, -1, 0, 0, 0), (1, 1, 0, -2, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="negative"):
        step_bound(CHIP, *counts)


def test_the_table_of_chips_agrees_with_the_peaks_and_itself():
    for chip in chips.CHIPS:
        assert chips.find(chip.name) is chips.find(chip.device_kind) is chip
        # Operations that a byte must be worth: 100 … 600 for HBM, more for the slower interconnect.
        assert 100 < chip.peak_flops / chip.hbm_bandwidth < 600
        assert chip.ici_bandwidth < chip.hbm_bandwidth
    assert chips.find("v5e").hbm_bytes == 15.75 * 2**30
    assert chips.find("v4").ici_bandwidth == 270e9
    with pytest.raises(KeyError, match="v5p"):
        chips.find("v9")
