"""Claims as every page colours them."""

import pytest

from rlaifv_jax.pages import macros


@pytest.mark.parametrize(
    ("p", "band", "shown"),
    [
        (0.0, "claim-0", "0.00"),
        (0.199, "claim-0", "0.20"),
        (0.2, "claim-1", "0.20"),
        (0.5, "claim-2", "0.50"),
        (1.0, "claim-4", "1.00"),
        (1.004, "claim-4", "1.00"),
        (None, "claim-none", "–"),
    ],
)
def test_a_claim_says_its_number_and_is_escaped(p: float | None, band: str, shown: str) -> None:
    found = str(macros("claims.html.j2").claim("a <b>dog</b>", p))
    assert f'class="claim {band}"' in found
    assert f"p(yes) </span>{shown}</span>" in found
    assert "a &lt;b&gt;dog&lt;/b&gt;" in found


def test_the_key_names_every_band() -> None:
    found = str(macros("claims.html.j2").claims_key())
    assert all(f"claim-{band}" in found for band in range(5))
    assert "0.8 to 1.0" in found
