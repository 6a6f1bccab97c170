"""Who comes next."""

import threading

from rlaifv_jax.chat_page.line import Baton, Line, Visitors


def test_first_come_first_served() -> None:
    line, halt = Line(), threading.Event()
    first, second, third = line.join(), line.join(), line.join()
    assert list(line.wait(first, halt)) == []
    waiting = line.wait(third, halt)
    assert next(waiting) == 2
    line.leave(second)
    assert next(waiting) == 1
    line.leave(first)
    assert list(waiting) == []
    fourth = line.join()
    waiting = line.wait(fourth, halt)
    assert next(waiting) == 1
    threading.Timer(0.05, halt.set).start()
    assert list(waiting) == []  # whoever is stopped does not wait
    line.leave(fourth)
    line.leave(fourth)


def test_a_baton_goes_round() -> None:
    baton, order = Baton(), []
    started = threading.Barrier(2)

    def run(name: str) -> None:
        started.wait()
        for _ in range(5):
            ticket = baton.take()
            order.append(name)
            while len(baton.line._tickets) < 2 and len(order) < 9:
                pass  # until the other one waits
            baton.give(ticket)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(order) == ["a"] * 5 + ["b"] * 5
    assert "".join(order) in ("ababababab", "bababababa")


def test_a_page_has_one_request() -> None:
    visitors = Visitors()
    first = visitors.begin("tab", "why?")
    visitors.stop("other")
    second = visitors.begin("tab", "what?")
    assert first.halt.is_set()
    assert first.dropped
    visitors.stop("tab")
    assert second.halt.is_set()
    assert not second.dropped
    assert visitors.drop("tab") == ""  # answered, or stopped
    assert second.dropped
    visitors.begin("tab", "where?")
    assert visitors.drop("tab") == "where?"
