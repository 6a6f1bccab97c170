"""What has to be said of every family is said of each."""

import re
from pathlib import Path

import pytest

from convert.layouts import LAYOUTS
from convert.tables import TABLES
from rlaifv_jax import published
from rlaifv_jax.chat import DEFAULTS
from rlaifv_jax.data.conversation import NAMED
from rlaifv_jax.data.faults import REASONS
from rlaifv_jax.data.images import ASPECT_RATIOS
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import blueprint, flat
from rlaifv_jax.models.families import FAMILIES

DOCS = Path(__file__).parents[1] / "docs"


def test_every_family_is_known_everywhere() -> None:
    names = {family.name for family in FAMILIES.values()}
    assert names == set(TABLES) == set(LAYOUTS) == set(DEFAULTS)
    assert all(set(family.templates) <= set(NAMED) for family in FAMILIES.values())


@pytest.mark.parametrize("path", published.MODELS)
def test_a_published_model_has_every_parameter_and_prepares_pictures(path: str) -> None:
    """Its table fills each parameter, and its family's ways with pictures are among those that it knows."""
    known = published.sizes_of(path)
    assert known is not None
    family, config = known
    assert {entry.path for entry in TABLES[family.name](config)} == set(flat(blueprint(family.module, config).shapes))
    for way in (family.training_aspect_ratio, family.generation_aspect_ratio):
        picture = config.processor(way).placement(published.PICTURE)
        assert picture.tiles * config.tile.tokens > max(int(places.max()) for places in picture.places)
        assert picture.positions + 600 < family.max_length
    for way in set(ASPECT_RATIOS) - set(config.aspect_ratios):
        with pytest.raises(UserError, match="this model knows"):
            config.processor(way)


def test_the_reasons_of_bad_rows_are_documented() -> None:
    assert re.findall(r"^\| `(\w+)` \|", (DOCS / "data.md").read_text().split("## Rows that are left out")[1], re.M)[
        : len(REASONS)
    ] == sorted(REASONS)
