"""What a checkpoint says of its context."""

from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.load import Speaker
from tests.convert.minicpms import TinyMiniCpm


@pytest.mark.parametrize("said", ["many", [4], -1, 10**12])
def test_a_context_that_is_none(tmp_path: Path, said: Any) -> None:
    folder = TinyMiniCpm().write(tmp_path, max_position_embeddings=said)
    with pytest.raises(UserError, match=r"config\.json: max_position_embeddings is"):
        Speaker(folder)


def test_the_context_is_that_of_the_config(tmp_path: Path) -> None:
    assert Speaker(TinyMiniCpm().write(tmp_path, max_position_embeddings=77)).context == 77
