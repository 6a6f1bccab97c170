"""What the page does, without the page: requests in, what is to be seen out."""

import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from rlaifv_jax.chat import Chat, open_picture
from rlaifv_jax.chat_page import talk
from rlaifv_jax.chat_page.best import Choice, Chooser
from rlaifv_jax.chat_page.line import Line, Request, Visitors
from rlaifv_jax.chat_page.talk import Asked
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class View:
    """Of one page. histories: of every model what was asked and said. asking, saying: what is under way, if `busy`.
    box: what the box for questions holds; None: what the person has typed. choice: of the last question."""

    histories: tuple[tuple[tuple[str, str], ...], ...]
    asking: str = ""
    saying: tuple[str, ...] = ()
    busy: bool = False
    note: str = ""
    error: str = ""
    box: str | None = None
    choice: Choice | None = None


class Desk:
    """One for all pages; the models work for one request at a time, first come, first served.

    chats: one model or two. chooser: of the first one's answers, where there is somebody to choose.
    """

    def __init__(self, chats: Sequence[Chat], chooser: Chooser | None = None):
        self.chats, self.chooser = chats, chooser
        self.line, self.visitors = Line(), Visitors()

    @property
    def empty(self) -> View:
        return View(((),) * len(self.chats))

    def ask(self, session: str, asked: Asked) -> Iterator[View]:
        """The answers as they grow. What goes wrong is in the last view; what was asked is in the box again then."""
        view = self._view(asked)
        request = self.visitors.begin(session, asked.question)
        yield from self._in_line(request, view, self._answer(asked, view, request))

    def again(self, session: str, asked: Asked) -> Iterator[View]:
        """The last question of the histories once more, with the seed of `asked`."""
        histories = tuple(map(tuple, asked.histories))
        if not histories[0]:
            yield View(histories, error="There is no answer yet that could be given again.")
            return
        if not asked.settings["temperature"]:
            note = "These settings draw nothing, so the answer would be the same. Set a temperature above 0."
            yield View(histories, note=note)
            return
        before = [list(history[:-1]) for history in histories]
        question = histories[0][-1][0]
        for view in self.ask(session, replace(asked, question=question, histories=before)):
            failed = not view.busy and len(view.histories[0]) < len(histories[0])
            yield replace(view, histories=histories, box=None) if failed else replace(view, box=None)

    def choose(self, session: str, asked: Asked, number: int, by: str) -> Iterator[View]:
        """The best of `number` answers of the first model, which goes into all histories."""
        assert self.chooser
        view = self._view(asked)
        request = self.visitors.begin(session, asked.question)
        yield from self._in_line(request, view, self._choose(asked, number, by, view, request))

    def _view(self, asked: Asked) -> View:
        return View(tuple(map(tuple, asked.histories)), asked.question, ("",) * len(self.chats), busy=True, box="")

    def _in_line(self, request: Request, view: View, work: Generator[View, None, None]) -> Iterator[View]:
        """Does the work when it is its turn. view: what is seen until then."""
        ticket = self.line.join()
        error = ""
        try:
            yield view
            for ahead in self.line.wait(ticket, request.halt):
                yield replace(view, note=f"Waiting; requests of others that come first: {ahead}.")
            with closing(work):
                for now in work:
                    if request.dropped:
                        return
                    yield now
        except UserError as fault:
            error = str(fault)
        except Exception as fault:
            say(traceback.format_exc().rstrip())
            error = "the devices have no memory left" if "RESOURCE_EXHAUSTED" in str(fault) else type(fault).__name__
            error += "; the terminal of this page's server says more"
        finally:
            request.halt.set()  # also where the reader has gone
            self.line.leave(ticket)
        if error and not request.dropped:
            yield View(view.histories, error=error[:1].upper() + error[1:], box=view.asking)

    def _answer(self, asked: Asked, view: View, request: Request) -> Generator[View, None, None]:
        start = time.monotonic()
        texts: Sequence[str] = view.saying
        for texts in talk.answers(self.chats, asked, request.halt):
            yield replace(view, saying=tuple(texts))
        if request.halt.is_set() and not any(texts):
            yield View(view.histories, note="Stopped before the first word.", box=asked.question)
            return
        how = "Stopped" if request.halt.is_set() else "Answered"
        yield View(_longer(view, texts), note=f"{how} after {time.monotonic() - start:.1f} s.")

    def _choose(self, asked: Asked, number: int, by: str, view: View, request: Request) -> Generator[View, None, None]:
        assert self.chooser
        start = time.monotonic()
        for found in self.chooser.choose(asked, number, by, request.halt):
            if isinstance(found, str):
                yield replace(view, note=found)
                continue
            note = f"The best of {len(found.candidates)}, after {time.monotonic() - start:.1f} s. All stand below."
            yield View(_longer(view, [found.best.text] * len(self.chats)), note=note, choice=found)
            return
        yield View(view.histories, note="Stopped; nothing was chosen.", box=asked.question)


def _longer(view: View, texts: Sequence[str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple((*history, (view.asking, text)) for history, text in zip(view.histories, texts, strict=True))


def checked(image: str | None) -> str | None:
    """The picture's file. Raises `UserError` where it cannot be opened."""
    open_picture(image)
    return image
