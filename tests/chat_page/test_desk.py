"""What the page does, without a browser."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rlaifv_jax.chat_page import serving
from rlaifv_jax.chat_page.best import MEAN, Chooser
from rlaifv_jax.chat_page.desk import Desk, View, checked
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.questions import DESCRIBE
from tests.chat_page import small


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scene") / "scene.png"
    file.write_bytes(small.scene(1)[1])
    return file


def test_answers_of_two_grow_side_by_side(photo: Path) -> None:
    chats = [small.chat("policy"), small.chat("base")]
    desk = Desk(chats)
    *growing, last = desk.ask("tab", small.asked(photo, 2))
    settings = {name: value for name, value in small.GREEDY.items() if name != "cache"}
    whole = [one.chat(photo, DESCRIBE, **settings) for one in chats]
    assert [history for (history,) in last.histories] == [(DESCRIBE, text) for text in whole]
    assert last.note.startswith("Answered after")
    assert all(view.busy and view.histories == ((), ()) for view in growing)
    for place, text in enumerate(whole):
        seen = [view.saying[place] for view in growing]
        assert all(text.startswith(piece) for piece in seen)
        assert len(set(seen)) > 5
    leads = {(len(a) > len(b)) for a, b in (view.saying for view in growing[:-1]) if len(a) != len(b)}
    assert len(growing) > 10
    assert leads  # neither waits for the other's end:
    assert all(growing[len(growing) // 2].saying)


def test_a_conversation_goes_on_and_again(photo: Path) -> None:
    desk = Desk([small.chat("policy")])
    *_, first = desk.ask("tab", small.asked(photo))
    told = replace(small.asked(photo, question="what ?"), histories=[list(first.histories[0])])
    *_, second = desk.ask("tab", told)
    assert second.histories[0][0] == first.histories[0][0]
    assert second.histories[0][1][0] == "what ?"
    again = replace(told, histories=[list(first.histories[0])], question="typed by now")
    (view,) = desk.again("tab", again)
    assert view.histories == first.histories
    assert "draw nothing" in view.note
    again.settings.update(temperature=1.0, seed=7)
    *_, view = desk.again("tab", again)
    ((question, answer),) = view.histories[0]
    assert question == DESCRIBE
    assert answer != first.histories[0][0][1]
    assert view.box is None  # what is typed stays
    (view,) = desk.again("tab", small.asked(photo))
    assert view.error.startswith("There is no answer yet")


def test_stopped_it_keeps_what_was_said(photo: Path) -> None:
    desk = Desk([small.endless()])
    seen: list[View] = []
    for view in desk.ask("tab", small.asked(photo, max_new_tokens=small.LONG)):
        seen.append(view)
        if any(view.saying):
            desk.visitors.stop("tab")
    ((question, answer),) = seen[-1].histories[0]
    assert question == DESCRIBE
    assert seen[-2].saying[0] == answer
    assert seen[-1].note.startswith("Stopped after")
    assert len(answer.split()) < 60


def test_others_wait_in_order_and_can_leave(photo: Path) -> None:
    desk = Desk([small.endless()])
    first = desk.ask("first", small.asked(photo, max_new_tokens=small.LONG))
    while not any(next(first).saying):
        pass
    second, third = (desk.ask(tab, small.asked(photo, max_new_tokens=small.LONG)) for tab in ("second", "third"))
    assert next(second).busy
    assert next(second).note.endswith("come first: 1.")
    assert next(third).busy
    assert next(third).note.endswith("come first: 2.")
    desk.visitors.stop("second")
    *_, view = second
    assert view.note == "Stopped before the first word."
    assert view.box == DESCRIBE
    first.close()  # a closed page
    while not any(next(third).saying):
        pass
    desk.visitors.drop("third")
    assert all(view.busy for view in third)  # nothing of it is shown at the end
    assert not desk.line._tickets
    assert threading.active_count() < 30


@pytest.mark.parametrize(
    ("question", "settings", "message"),
    [
        ("very " * 3000, {}, "The conversation is too long: it takes"),
        (" ", {}, "There is no question"),
        (DESCRIBE, {"max_new_tokens": 0}, "Max_new_tokens is 0"),
        (DESCRIBE, {"max_new_tokens": 4000}, "made for 2048 positions"),
        (DESCRIBE, {"temperature": 1e-9}, "it must be 0, or 0.001 or more"),
    ],
)
def test_mistakes_are_seen(photo: Path, question: str, settings: dict[str, float], message: str) -> None:
    for models in (["policy"], ["policy", "base"]):
        desk = Desk([small.chat(name) for name in models])
        *_, view = desk.ask("tab", small.asked(photo, len(models), question, **settings))
        assert message in view.error
        assert view.box == question
        assert not any(view.histories)
        assert not view.busy
    *_, view = desk.ask("tab", small.asked(photo, 2))
    assert any(view.histories)  # and nothing is left of it


def test_what_nobody_foresaw_is_seen_too(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: object, **options: object) -> str:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    chat = small.endless()
    monkeypatch.setattr(chat, "chat", broken, raising=False)
    *_, view = Desk([chat]).ask("tab", small.asked(photo))
    assert view.error == "The devices have no memory left; the terminal of this page's server says more"
    assert "Out of memory" in capsys.readouterr().err


def test_the_best_goes_into_all_conversations(photo: Path) -> None:
    chats = [small.chat("policy"), small.chat("base")]
    desk = Desk(chats, Chooser(chats[0], small.labeler(), None, small.READING))
    *growing, view = desk.choose("tab", small.asked(photo, 2), 4, MEAN)
    assert view.choice is not None
    assert view.histories == (((DESCRIBE, view.choice.best.text),),) * 2
    assert "The labeler looks at the claims …" in [one.note for one in growing]
    *_, view = desk.choose("tab", small.asked(None, 2), 3, MEAN)
    assert "by which the labeler could judge claims" in view.error
    desk.visitors.drop("tab")
    stopping = desk.choose("tab", small.asked(photo, 2), 4, MEAN)
    next(stopping)
    desk.visitors.stop("tab")
    *_, view = stopping
    assert view.note == "Stopped; nothing was chosen."


def test_pictures_that_cannot_be_opened(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "no.png").write_text("hello")
    with pytest.raises(UserError, match="no picture that can be read"):
        checked(str(tmp_path / "no.png"))
    assert checked(str(photo)) == str(photo)
    assert checked(None) is None


def test_names_that_tell_models_apart() -> None:
    assert serving.short(["a/b"]) == ["b"]
    assert serving.short(["a/x/m/", "a/y/m"]) == ["x/m", "y/m"]
    assert serving.short(["m", "m"]) == ["m", "m"]


def test_without_gradio_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlaifv_jax import chat

    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    said: list[str] = []
    monkeypatch.setattr("rlaifv_jax.cli.say", said.append)
    for words, message in (
        (["--web"], 'error: --web needs gradio: pip install "rlaifv-jax[chat]"'),
        (["--web", "why ?"], "error: --web: give questions and pictures on the page, not on the command line"),
        (["--labeler", "x", "why ?"], "error: --labeler belongs to the page; add --web"),
    ):
        monkeypatch.setattr(sys, "argv", ["chat", "--model", str(small.SHAPES / "models/policy"), *words])
        with pytest.raises(SystemExit) as end:
            chat.main()
        assert end.value.code == 2
        assert said.pop() == message
