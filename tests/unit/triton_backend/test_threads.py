"""The sender and the ticker: one failure must not stop the others, and both end when told to."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from gpt_oss_triton.errors import EngineUnavailable, Overloaded
from gpt_oss_triton.triton_backend import watch_streams
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.triton_backend.sender import Sender
from gpt_oss_triton.triton_backend.ticker import Ticker
from gpt_oss_triton.triton_backend.watch_streams import WatchStreams

DEADLINE_S = 10.0


class Stream:
    def __init__(self, done: queue.SimpleQueue[Any], fails: bool = False) -> None:
        self._done, self._fails = done, fails

    def flush(self) -> None:
        if self._fails:
            raise ValueError("the user's secret")
        self._done.put((self, "flushed"))

    def abandon(self) -> None:
        self._done.put((self, "abandoned"))


def test_a_stream_that_fails_is_abandoned_and_the_next_is_served(logged: list[str]) -> None:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    bad, good = Stream(done, fails=True), Stream(done)
    sender = Sender()
    sender.ready(bad)
    sender.ready(good)
    sender.close(DEADLINE_S)  # serves what is ready first
    assert [done.get(timeout=DEADLINE_S) for _ in range(2)] == [(bad, "abandoned"), (good, "flushed")]
    (line,) = logged
    assert "ValueError" in line
    assert "secret" not in line


def test_who_can_wait_is_overtaken_and_served_at_the_end_at_the_latest() -> None:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    patient, urgent = Stream(done), Stream(done)
    sender = Sender()
    sender.ready(patient, 3600.0)
    sender.ready(urgent)
    assert done.get(timeout=DEADLINE_S) == (urgent, "flushed")
    assert done.empty()
    sender.close(DEADLINE_S)
    assert done.get(timeout=DEADLINE_S) == (patient, "flushed")


def test_who_can_wait_is_served_in_time() -> None:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stream = Stream(done)
    sender = Sender()
    sender.ready(stream, 0.01)
    assert done.get(timeout=DEADLINE_S) == (stream, "flushed")
    sender.close(DEADLINE_S)


def test_tasks_come_back_until_they_end(logged: list[str]) -> None:
    turns: list[str] = []
    done = threading.Event()

    def thrice() -> float | None:
        turns.append("thrice")
        if turns.count("thrice") == 3:
            done.set()
            return None
        return 0.0

    def fails() -> float | None:
        turns.append("fails")
        raise ValueError

    ticker = Ticker()
    ticker.add(fails)
    ticker.add(thrice)
    assert done.wait(DEADLINE_S)
    ticker.close(DEADLINE_S)
    assert turns.count("fails") == 1
    assert turns.count("thrice") == 3
    assert len(logged) == 1


def test_an_earlier_task_overtakes() -> None:
    turns: queue.SimpleQueue[str] = queue.SimpleQueue()
    ticker = Ticker()
    ticker.add(lambda: turns.put("late"), delay_s=3600)
    ticker.add(lambda: turns.put("soon"))
    assert turns.get(timeout=DEADLINE_S) == "soon"
    ticker.close(DEADLINE_S)
    assert turns.empty()


class Turns:
    """Stands for the ticker: a task runs when the test says so."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def add(self, task: Any, delay_s: float = 0.0) -> None:
        self.tasks.append(task)


def test_a_watch_pushes_until_its_client_goes(triton_request: Any) -> None:
    turns, sequences = Turns(), []

    def load(sequence: int) -> None:
        sequences.append(sequence)

    watches = WatchStreams(load, turns)  # type: ignore[arg-type]
    request = triton_request()
    watches.open(Responder(request), 0.5)
    (task,) = turns.tasks
    assert [task(), task(), task()] == [0.5, 0.5, 0.5]
    request.sender.cancelled = True
    assert task() is None
    assert sequences == [0, 1, 2]
    assert (len(request.sender.sent), request.sender.finals) == (3, 1)
    watches.close()
    assert request.sender.finals == 1


def test_a_watch_of_a_broken_engine_gets_its_error(triton_request: Any) -> None:
    def load(sequence: int) -> None:
        raise EngineUnavailable("The device failed.")

    turns = Turns()
    watches = WatchStreams(load, turns)  # type: ignore[arg-type]
    request = triton_request()
    watches.open(Responder(request), 0.5)
    assert turns.tasks[0]() is None
    assert request.sender.sent[-1].error.message == "[engine_unavailable] The device failed."


def test_a_watch_that_cannot_be_written_to_makes_room(
    triton_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_streams, "MAX_STREAMS", 1)
    turns = Turns()
    watches = WatchStreams(lambda sequence: None, turns)  # type: ignore[arg-type, return-value]
    request = triton_request()
    watches.open(Responder(request), 0.5)
    request.sender.broken = True
    with pytest.raises(RuntimeError):  # which ends the ticker's task
        turns.tasks[0]()
    watches.open(Responder(triton_request()), 0.5)


def test_watches_are_bounded_and_closing_ends_them(
    triton_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_streams, "MAX_STREAMS", 2)
    watches = WatchStreams(lambda sequence: None, Turns())  # type: ignore[arg-type, return-value]
    requests = [triton_request() for _ in range(2)]
    for request in requests:
        watches.open(Responder(request), 0.5)
    with pytest.raises(Overloaded):
        watches.open(Responder(triton_request()), 0.5)
    watches.close()
    assert [request.sender.finals for request in requests] == [1, 1]
