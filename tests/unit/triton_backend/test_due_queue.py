from __future__ import annotations

import threading
import time

from gpt_oss_triton.triton_backend.due_queue import DueQueue

LATER_S = 3600.0


def test_what_is_due_first_comes_first() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.put("later", 0.02)
    queue.put("now")
    assert [queue.get(), queue.get()] == ["now", "later"]


def test_an_item_that_cannot_wait_any_longer_comes_once() -> None:
    """Or else each hurry would leave an entry behind that comes early for all that is put in afterwards."""
    queue: DueQueue[str] = DueQueue()
    for _ in range(3):
        queue.put("stream", 0.05)
        queue.put("stream")
        assert queue.get() == "stream"
    queue.put("stream", LATER_S)
    queue.put("other", 0.1)
    assert queue.get() == "other", "nothing of `stream` is due"
    queue.close(drop=False)
    assert [queue.get(), queue.get()] == ["stream", None]


def test_the_earliest_time_holds() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.put("stream")
    queue.put("stream", LATER_S)
    assert queue.get() == "stream"
    queue.close(drop=False)
    assert queue.get() is None


def test_closed_it_drops_what_is_left_if_told_to() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.put("a", LATER_S)
    queue.close(drop=True)
    queue.put("b")
    assert queue.get() is None


def test_who_waits_is_woken_by_what_is_due_earlier() -> None:
    queue: DueQueue[str] = DueQueue()
    queue.put("late", LATER_S)
    found: list[str | None] = []
    waiting = threading.Thread(target=lambda: found.append(queue.get()), daemon=True)
    waiting.start()
    time.sleep(0.1)  # it waits by now, most likely
    queue.put("early")
    waiting.join(10)
    assert found == ["early"]
