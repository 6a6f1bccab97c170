"""Chat: the class, the original's form, the command."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest
from PIL import Image

from rlaifv_jax import Chat, RLAIFVChat
from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.sampling.texts import before_stop
from tests import world
from tests.sampling.talker import Talker, pictures


@pytest.fixture(scope="module")
def chat(talker: Talker) -> Chat:
    found = Chat(talker.folder)
    found.settings = Sampling(num_beams=3, max_new_tokens=24)
    return found


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    pictures(2)[1].save(file)
    return file


def test_a_tag_in_the_question_places_no_image(chat: Chat, photo: Path) -> None:
    expected = chat.chat(photo, "what ?")
    for asked in ("<image>\nwhat ?", "<im<image>age>what ?", "what ?<image>"):
        assert chat.chat(photo, asked) == expected


def test_defaults_are_the_original_s(talker: Talker) -> None:
    assert Chat(talker.folder).settings == Sampling(num_beams=3, max_new_tokens=1024, temperature=0.0)
    assert RLAIFVChat is Chat


def test_every_form_of_a_question(chat: Chat, photo: Path, talker: Talker) -> None:
    question = "what is in the top left ?"
    answer = chat.chat(str(photo), question)
    assert answer == talker.ask(chat.settings)[1].answers[0].text  # the second question, the second picture
    assert chat.chat({"image": str(photo), "question": question}) == answer
    assert chat.chat(photo.read_bytes(), question) == answer
    assert chat.chat(Image.open(photo), question) == answer
    assert chat.chat(None, question) != answer


def test_streams_without_taking_anything_back(chat: Chat, photo: Path) -> None:
    plain = chat.chat(photo, "describe the image .")
    for settings in ({}, {"num_beams": 1}, {"temperature": 1.0}, {"stop": [plain[9:14]]}, {"stop": ["nowhere"]}):
        pieces: list[str] = []
        answer = chat.chat(photo, "describe the image .", show=pieces.append, **settings)
        assert "".join(pieces) == answer
        assert len(pieces) > 1 or settings.get("stop")


def test_what_is_certain_of_a_text() -> None:
    for text, stop, expected in (
        ("Hi ###abc", ["###"], "Hi "),
        ("###E", ["###END"], ""),
        ("a #b #", ["###", "b"], "a #"),
        ("a ##", ["###"], "a "),
        ("plain", [], "plain"),
    ):
        assert before_stop(text, stop) == expected


def test_history_and_seed_matter(chat: Chat, photo: Path) -> None:
    first = chat.chat(photo, "what ?")
    assert chat.chat(photo, "what ?", history=[("describe the image .", first)]) != first
    drawn = [chat.chat(photo, "what ?", num_beams=1, temperature=1.0, seed=seed) for seed in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


def test_beam_sampling_as_the_12b_chats(chat: Chat, photo: Path) -> None:
    settings = {"num_beams": 3, "temperature": 0.6, "top_k": 30, "top_p": 0.9, "repetition_penalty": 1.1}
    found = [chat.chat(photo, "what ?", seed=seed, **settings) for seed in (0, 1, 2, 0)]
    assert len(set(found)) > 1
    assert found[0] == found[3]


@pytest.mark.parametrize(
    ("image", "question", "message"),
    [
        ("/nowhere.png", "what?", "image: /nowhere.png cannot be read: No such file"),
        (__file__, "what?", "is no picture that can be read"),
        (7, "what?", "not int"),
        ("a\0b", "what?", "null byte"),
        (Image.new("I;16", (9, 9)), "what?", "more than 8 bits"),
        (None, " ", "there is no question"),
        (None, "very " * 3000, "at most 2024 leave room"),
    ],
)
def test_mistakes(chat: Chat, image: object, question: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        chat.chat(image, question)


def test_unknown_settings_and_models(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="beams_num"):
        chat.chat(None, "what?", beams_num=3)
    for settings, message in (
        ({"stop": "###"}, "a list of strings is needed"),
        ({"max_new_tokens": 5.5}, "a whole number is needed"),
        ({"temperature": "hot"}, "temperature is 'hot'|settings:"),
        ({"temperature": 1e-9}, "it must be 0, or 0.001 or more"),
        ({"cache": "int4"}, "cache is 'int4'"),
        ({"history": [("a",)]}, "a list of .question, answer. is needed"),
    ):
        with pytest.raises(UserError, match=message):
            chat.chat(None, "what?", **settings)
    with pytest.raises(UserError, match="not int"):
        Chat(5)
    with pytest.raises(UserError, match="dtype is 'float64'"):
        Chat(chat.speaker.model.directory, dtype="float64")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="model_type is 'gpt2', which is not supported"):
        Chat(tmp_path)


def test_the_command(talker: Talker, photo: Path) -> None:
    command = [sys.executable, "-m", "rlaifv_jax.chat", "--model", str(talker.folder), "--max-new-tokens", "24"]
    one = world.run([*command, "--image", str(photo), "what is in the top left ?"])
    assert one.returncode == 0
    asked = "what is in the top left ?\n/image /nowhere.png\nwhat ?\n/clear\nwhat is in the top left ?\n\n"
    several = subprocess.run(
        [*command, "--image", str(photo)],
        input=asked,
        cwd=world.ROOT,
        env=world.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = several.stdout.splitlines()
    assert len(answers) == 3
    assert answers[0] == answers[2] == one.stdout.strip()
    assert answers[1] != answers[0]
    (line,) = several.stderr.splitlines()
    assert line.startswith("error: image: /nowhere.png cannot be read: No such file or directory")
    bad = world.run([*command, "--image", __file__, "what?"])
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: image: ")
    assert len(bad.stderr.splitlines()) == 1


def test_halted_it_keeps_what_was_shown_and_no_slot(chat: Chat, photo: Path) -> None:
    question, long = "describe the image .", {"num_beams": 1, "max_new_tokens": 200, "min_new_tokens": 200}
    whole = chat.chat(photo, question, **long)
    pieces: list[str] = []
    before = sum(array.nbytes for array in jax.live_arrays())
    answer = chat.chat(photo, question, show=pieces.append, halt=lambda: len(pieces) >= 3, **long)
    assert sum(array.nbytes for array in jax.live_arrays()) == before  # keys and values are gone at once
    assert answer == "".join(pieces)
    assert whole.startswith(answer)
    assert 0 < len(answer) < len(whole) / 4
    assert chat.chat(photo, question, **long) == whole


def test_draws_several_answers_or_is_halted(chat: Chat, photo: Path) -> None:
    settings = {"num_beams": 1, "temperature": 1.0}
    drawn = chat.draw(photo, "what ?", 4, seed=1, **settings)
    assert len(drawn) == 4
    assert len(set(drawn)) > 1
    assert drawn[0] == chat.chat(photo, "what ?", seed=1, **settings)
    assert chat.draw(photo, "what ?", 4, halt=lambda: True, **settings) == []
    with pytest.raises(UserError, match="would all be the same"):
        chat.draw(photo, "what ?", 2, num_beams=1)
