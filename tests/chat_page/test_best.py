"""The best of several answers: claims, where they stand, who is chosen and why."""

import threading
from pathlib import Path

import pytest

from rlaifv_jax.chat_page.best import LOWEST, MEAN, REWARD, Candidate, Choice, Chooser
from rlaifv_jax.chat_page.claims import Claim, located
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.questions import DESCRIBE, truth
from tests.chat_page import small


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scene") / "scene.png"
    file.write_bytes(small.scene()[1])
    return file


def claims(*values: float | None) -> tuple[Claim, ...]:
    return tuple(Claim(f"c{n}.", f"c{n}?", value, "" if value is not None else "why") for n, value in enumerate(values))


def test_values() -> None:
    one = Candidate(1, "", claims(0.9, 0.3), reward=-0.5)
    assert [one.value(way) for way in (MEAN, LOWEST, REWARD)] == [pytest.approx(0.6), 0.3, -0.5]
    assert Candidate(1, "").value(MEAN) is None
    assert Candidate(1, "", claims(0.9, None)).value(LOWEST) is None


def test_where_claims_stand() -> None:
    answer = "A dog  runs. Yes. <b>It</b> is red ."
    found = [Claim(text, "", 0.5) for text in ("A dog runs.", "Is it? Yes.", "Nobody said so.", "<b>It</b> is red.")]
    pieces, elsewhere = located("Is  it?", answer, found)
    assert "".join(piece.text for piece in pieces) == answer
    assert [piece.claim for piece in pieces] == [0, None, 1, None, 3]
    assert elsewhere == [2]


def test_what_is_seen_of_a_choice() -> None:
    text = "<script>alert(1)</script>"
    judged = (Claim(text, 'Is "it"?', 0.4), Claim("a cat", "a cat?", None, "image_too_thin: so"))
    pieces, elsewhere = located("", text, judged)
    best = Candidate(2, text, judged[:1], tuple(pieces), (), 0.25)
    other = Candidate(1, text, judged, tuple(pieces), tuple(elsewhere), None)
    html = Choice("?", MEAN, (best, other)).html()
    assert "<script>" not in html
    assert "whose claims the labeler believes most on average" in html
    assert '<mark class="doubtful" title="Is &#34;it&#34;?">&lt;script&gt;' in html
    assert '<span class="p">0.40</span>' in html
    assert '<mark class="unknown"' in html
    assert "image_too_thin: so" in html
    assert "could not be scored" in html
    assert html.index("drawn as number 2") < html.index("drawn as number 1")


def test_a_labeler_s_choice(photo: Path) -> None:
    scene, _ = small.scene()
    chooser = Chooser(small.chat("policy"), small.labeler(), None, small.READING)
    assert chooser.ways == [MEAN, LOWEST]
    *told, choice = chooser.choose(small.asked(photo, seed=3), 4, MEAN, threading.Event())
    assert told == ["Writing 4 answers at temperature 1 …", "The labeler looks at the claims …"]
    assert isinstance(choice, Choice)
    values = [one.value(MEAN) for one in choice.candidates]
    assert values == sorted(values, reverse=True)
    judged = [claim for one in choice.candidates for claim in one.claims]
    right = [
        (claim.p > 0.5) == (truth(scene, claim.question) == "yes") for claim in judged if "there in" in claim.question
    ]
    assert len(right) > 4
    assert sum(right) > 0.8 * len(right)  # the labeler sees what the policy makes up


def test_dpo_s_choice_is_that_of_the_command(photo: Path, tmp_path: Path) -> None:
    """As rlaifv_jax.feedback.best_of_n finds it from files."""
    from rlaifv_jax.data.finder import Pictures
    from rlaifv_jax.feedback.best_of_n import BestOptions, best_of_n
    from rlaifv_jax.feedback.fields import owner_of
    from rlaifv_jax.records.answer_file import write_records
    from rlaifv_jax.records.shards import read_shards
    from rlaifv_jax.records.source import Input

    chooser = Chooser(small.chat("policy"), None, small.chat("base"), small.READING)
    asked = small.asked(photo, temperature=1.0)
    *_, choice = chooser.choose(asked, 4, REWARD, threading.Event())
    assert isinstance(choice, Choice)
    drawn = sorted(choice.candidates, key=lambda one: one.number)
    about = {"question": DESCRIBE, "image_path": str(photo), "ds_question_id": "0"}
    write_records(tmp_path / "answers.jsonl", [about | {"answer": one.text} for one in drawn], {})
    models = (str(small.SHAPES / "models" / name) for name in ("policy", "base"))
    source = Input(str(tmp_path / "answers.jsonl"), owner_of, 10)
    (best,) = read_shards(best_of_n(source, tmp_path, BestOptions(*models, "reward", 0, small.READING), Pictures([""])))
    assert best["answer"] == choice.best.text
    assert [one.reward for one in drawn] == pytest.approx(best["rewards"], abs=1e-5)
    asked.histories[0].append(("what is in the top left ?", "nothing"))
    assert chooser.rewards(asked, [drawn[0].text]) != pytest.approx([drawn[0].reward], abs=1e-3)


def test_nothing_to_look_at_and_stopped(photo: Path) -> None:
    chooser = Chooser(small.chat("policy"), small.labeler(), small.chat("base"), small.READING)
    with pytest.raises(UserError, match="there is none, by which the labeler could judge claims"):
        list(chooser.choose(small.asked(None), 2, MEAN, threading.Event()))
    halt = threading.Event()
    seen = []
    for found in chooser.choose(small.asked(photo), 4, MEAN, halt):
        seen.append(found)
        halt.set()
    assert seen == ["Writing 4 answers at temperature 1 …"]
