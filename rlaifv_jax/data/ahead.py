"""Work that threads do a little before it is wanted."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

READING_AHEAD = "reading-ahead"  # how their names begin
READERS, READ_AHEAD = 8, 64  # threads that decode pictures, and how many pictures they may be ahead


def ahead(
    prepare: Callable[[Any], Any], items: Iterable[Any], *, threads: int = READERS, most: int = READ_AHEAD
) -> Iterator[Any]:
    """prepare(item) of every item, in order; at most `most` of them wait to be taken. What it raises, this raises."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=READING_AHEAD)
    ready: deque[Future[Any]] = deque()
    wait = True
    try:
        for item in items:
            ready.append(pool.submit(prepare, item))
            if len(ready) > most:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
    except KeyboardInterrupt:
        wait = False  # whatever threads wait for
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
