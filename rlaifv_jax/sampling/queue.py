"""Prompts that wait for a slot of their length."""

from collections import defaultdict, deque
from collections.abc import Iterable

from rlaifv_jax.sampling.capacity import slot_length
from rlaifv_jax.sampling.prompt import Prompt

AHEAD = 256  # prompts of other lengths that may wait while one length is worked on


class Queue:
    """Reads prompts when they are needed and sorts them by the length of their slots."""

    def __init__(self, prompts: Iterable[Prompt]):
        self._source = iter(prompts)
        self._waiting: dict[int, deque[Prompt]] = defaultdict(deque)
        self._empty = False

    def next_length(self) -> int | None:
        """The length that most prompts wait for; None when no prompts remain."""
        if not any(self._waiting.values()):
            self._read()
        if not any(self._waiting.values()):
            return None
        return max(self._waiting, key=lambda length: len(self._waiting[length]))

    def take(self, length: int, most: int) -> list[Prompt]:
        """Up to `most` prompts of this length; fewer when there are no more, or too many others wait."""
        here = self._waiting[length]
        while len(here) < most and not self._empty and sum(map(len, self._waiting.values())) - len(here) < AHEAD:
            self._read()
        return [here.popleft() for _ in range(min(most, len(here)))]

    def _read(self) -> None:
        prompt = next(self._source, None)
        if prompt is None:
            self._empty = True
        else:
            self._waiting[slot_length(prompt.positions)].append(prompt)
