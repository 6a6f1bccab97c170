"""Templates: the packaged ones, and the user's."""

from pathlib import Path

import pytest

from eval import prompts
from rlaifv_jax.errors import UserError

SLOTS = {"question": "why {answer}?", "answer": "so"}


def test_named_slots_and_bare_ones() -> None:
    assert prompts.fill("{x} {question} - {answer}", SLOTS, "s") == "{x} why {answer}? - so"
    assert prompts.fill("1 {} 2 {} {x}", SLOTS, "s") == "1 why {answer}? 2 so {x}"
    assert prompts.fill("{question} {answer} {} {}", SLOTS, "s") == "why {answer}? so {} {}"
    with pytest.raises(UserError, match=r"the prompt of s has no \{answer\}"):
        prompts.fill("{question}", SLOTS, "s")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("mine {} {} {} {}\n")
    packaged, own = prompts.load(("mmhal",)), prompts.load(("mmhal",), [str(file)])
    assert own.texts == {"mmhal": "mine {} {} {} {}"}
    assert (packaged.origins["mmhal"], own.origins["mmhal"]) == ("packaged", str(file))
    assert packaged.hashes != own.hashes
    both = prompts.load(("refomb_overall", "refomb_hallucination"), [f"refomb_overall={file}"])
    assert both.origins == {"refomb_overall": str(file), "refomb_hallucination": "packaged"}


@pytest.mark.parametrize(
    ("stages", "given", "message"),
    [
        (("a", "b"), "file.txt", "which prompt is it\\? One of a=FILE, b=FILE"),
        (("mmhal",), "other=file.txt", "which prompt is it\\? One of mmhal=FILE"),
        (("mmhal",), "mmhal=/nowhere/file.txt", "cannot be read"),
        ((), "file.txt", "none: no judge is asked"),
        (("a", "b"), "a=", "which prompt is it"),
    ],
)
def test_bad_files(stages: tuple[str, ...], given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prompts.load(stages, [given])


def test_two_for_one_stage() -> None:
    with pytest.raises(UserError, match=r"there are two for mmhal, x\.txt and y\.txt"):
        prompts.load(("mmhal",), ["x.txt", "mmhal=y.txt"])
