"""Answers of one model, or of two by turns, as they grow."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.chat import Chat
from rlaifv_jax.chat_page.line import Baton

History = list[tuple[str, str]]
Settings = dict[str, Any]  # fields of Sampling, and seed and cache


@dataclass(frozen=True)
class Asked:
    """image: a file, or None. histories: of every model its own."""

    image: str | None
    question: str
    histories: Sequence[History]
    settings: Settings


def answers(chats: Sequence[Chat], asked: Asked, halt: threading.Event) -> Iterator[list[str]]:
    """What all of them have said so far, whenever one has said more; at least once.

    With two models each works two steps and lets the other go on. Ends early, with what was said, where `halt` is set,
    and sets it where the reader goes away.

    Raises:
      UserError: as Chat.chat; all answers end.
    """
    pieces: queue.SimpleQueue[tuple[int, str | BaseException | None]] = queue.SimpleQueue()
    baton = Baton()
    threads = [
        threading.Thread(target=_answer, args=(chat, place, asked, halt, baton, pieces), daemon=True)
        for place, chat in enumerate(chats)
    ]
    texts, left = [""] * len(chats), len(chats)
    for thread in threads:
        thread.start()
    try:
        while left:
            place, piece = pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                left -= 1
            else:
                texts[place] += piece
            yield list(texts)
    finally:
        if left:
            halt.set()
        for thread in threads:
            thread.join()


def _answer(
    chat: Chat, place: int, asked: Asked, halt: threading.Event, baton: Baton, pieces: queue.SimpleQueue[Any]
) -> None:
    ticket = baton.take()

    def look() -> bool:
        nonlocal ticket
        baton.give(ticket)
        ticket = baton.take()
        return halt.is_set()

    try:
        if not halt.is_set():
            chat.chat(
                asked.image,
                asked.question,
                history=asked.histories[place],
                show=lambda piece: pieces.put((place, piece)),
                halt=look,
                **asked.settings,
            )
        pieces.put((place, None))
    except BaseException as error:  # whatever it is, the reader has to hear of it
        pieces.put((place, error))
    finally:
        baton.give(ticket)
