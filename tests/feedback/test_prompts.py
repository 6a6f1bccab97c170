"""Protocol strings of the published models, and templates of one's own."""

from pathlib import Path

import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.prompts import FOLDER, load, question_prompt, split_prompt


def test_the_split_prompt() -> None:
    text, cut = split_prompt(load("split"), "What is there?", "A dog.", 300)
    assert not cut
    assert text.startswith("You are an expert in extracting facts from the given question-answer pair for an image. ")
    assert "### Facts:\n- {Extracted fact 1}\n- {Extracted fact 2}\n- ...\n\n### Question-answer pair:\n" in text
    assert text.endswith("Question: What is there?\nAnswer: A dog.")


def test_it_is_cut_to_300_pieces_of_which_55_are_the_instruction() -> None:
    words = [f"w{number}" for number in range(400)]
    text, cut = split_prompt(load("split"), "q", " ".join(words), 300)
    assert cut
    assert len(text.split(" ")) == 300
    instruction = load("split").text.partition("{question}")[0]
    assert instruction.count(" ") == 55  # so question and answer keep 245
    whole, cut = split_prompt(load("split"), "q", " ".join(words), 0)
    assert not cut
    assert whole.endswith(" w399")
    double, _ = split_prompt(load("split"), "q", "a  b " * 200, 300)
    assert len(double.split(" ")) == 300  # two blanks make an empty piece, which counts


def test_the_question_prompt() -> None:
    text = question_prompt(load("question"), ["There is a dog.", "It is not brown."])
    assert text.endswith("### Declarative sentences:\n- There is a dog.\n\n- It is not brown.\n")
    assert "extra content.\n    If the given declarative sentence contains not, no or negative" in text
    assert "retains words with not , no or negative meaning words.\n\nYou should" in text


def test_the_check() -> None:
    assert load("check").fill(question="Is there a dog?") == "Is there a dog? Please answer yes or no."


def test_braces_in_what_is_filled_in_stay() -> None:
    text, _ = split_prompt(load("split"), "{answer}", "{question} {x}", 0)
    assert text.endswith("Question: {answer}\nAnswer: {question} {x}")


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Q {question}\nA {answer}\n")
    template = load("split", str(tmp_path / "mine.txt"))
    assert template.fill(question="a", answer="b") == "Q a\nA b"
    assert template.fingerprint != load("split").fingerprint
    with pytest.raises(UserError, match=r"mine\.txt has no \{claims\}"):
        load("question", str(tmp_path / "mine.txt"))
    with pytest.raises(UserError, match="cannot be read"):
        load("split", str(tmp_path / "nothing.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read"):
        load("split", str(tmp_path / "bytes.txt"))


def test_all_templates_are_packaged() -> None:
    assert sorted(file.stem for file in FOLDER.iterdir()) == ["check", "question", "split"]
