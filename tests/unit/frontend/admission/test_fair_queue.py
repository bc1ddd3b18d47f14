from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.admission.fair_queue import FairQueue, Waiter, flow_of
from gpt_oss_triton.config import Priority
from tests.unit.frontend.admission.asks import ask


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Queue(FairQueue):
    """A queue whose waiters are numbered by when they came."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.came = 0

    def add(
        self, key: str = "key", priority: Priority = "normal", *, tokens: int = 256, first: bool = False
    ) -> Waiter:
        self.came += 1
        waiter = Waiter(
            ask(key, priority=priority, prompt=tokens, output=0), self.came, self.loop.create_future()
        )
        self.push(waiter, first=first)
        return waiter

    def serve(self) -> Waiter:
        """The one whose turn it is starts."""
        waiter = self.candidates()[0]
        self.remove(waiter)
        self.started(waiter.ask)
        return waiter


@pytest.fixture
def queue(loop: asyncio.AbstractEventLoop) -> Queue:
    return Queue(loop)


def names(waiters: list[Waiter]) -> list[str]:
    return [waiter.ask.caller.name for waiter in waiters]


def test_one_caller_is_served_in_order(queue: Queue) -> None:
    waiters = [queue.add() for _ in range(5)]
    assert [queue.serve() for _ in range(5)] == waiters
    assert len(queue) == 0


def test_callers_take_turns_however_many_one_sends(queue: Queue) -> None:
    for _ in range(100):
        queue.add("flood")
    for _ in range(3):
        queue.add("a")
        queue.add("b")
    assert Counter(names([queue.serve() for _ in range(9)])) == {"flood": 3, "a": 3, "b": 3}


def test_turns_are_fair_in_tokens(queue: Queue) -> None:
    for _ in range(20):
        queue.add("long", tokens=1000)
        queue.add("short", tokens=100)
    served = Counter(names([queue.serve() for _ in range(22)]))
    assert served["short"] == 20
    assert served["long"] == 2


def test_who_holds_much_waits_for_those_who_hold_little(queue: Queue) -> None:
    for _ in range(5):
        queue.started(ask("flood"))
    queue.add("flood")
    queue.add("flood")
    late = queue.add("a")
    assert queue.serve() is late
    assert queue.greedy() == ("normal", "flood")


def test_what_has_ended_is_held_no_more(queue: Queue) -> None:
    running = [ask("a") for _ in range(3)]
    for one in running:
        queue.started(one)
    for one in running:
        queue.ended(one)
    assert queue.flows() == set()
    assert queue.greedy() is None


def test_nobody_is_greedy_among_many_or_alone(queue: Queue) -> None:
    queue.started(ask("0"))
    assert queue.greedy() is None
    for n in range(1, 9):
        queue.started(ask(f"{n}"))
    assert queue.greedy() is None
    queue.started(ask("0", prompt=400))
    assert queue.greedy() == ("normal", "0")


def test_greed_is_for_the_weight(queue: Queue) -> None:
    for _ in range(2):
        queue.started(ask("a", priority="high"))
    queue.started(ask("b", priority="low"))
    assert queue.greedy() == ("low", "b")


def test_classes_share_by_weight_and_none_starves(queue: Queue) -> None:
    for _ in range(60):
        for priority in ("high", "normal", "low"):
            queue.add(priority, priority)
    served = Counter(waiter.ask.priority for waiter in (queue.serve() for _ in range(52)))
    assert served == {"high": 32, "normal": 16, "low": 4}


def test_a_class_alone_gets_everything(queue: Queue) -> None:
    waiters = [queue.add("key", "low") for _ in range(3)]
    assert [queue.serve() for _ in range(3)] == waiters


def test_a_request_that_lost_its_engine_is_next(queue: Queue) -> None:
    queue.add("key", "high")
    returned = queue.add("key", "low", first=True)
    assert queue.serve() is returned


def test_who_fits_may_pass_who_does_not_but_not_for_ever(queue: Queue) -> None:
    large = queue.add("large")
    small = [queue.add("small") for _ in range(30)]
    assert queue.candidates()[:2] == [large, small[0]]
    large.overtaken = 16
    assert queue.candidates() == [large]


def test_a_barred_flow_is_no_candidate(queue: Queue) -> None:
    barred, other = queue.add("flood"), queue.add("a")
    assert queue.candidates(flow_of(barred.ask)) == [other]


def test_the_place_of_a_newcomer(queue: Queue) -> None:
    for _ in range(4):
        queue.add("flood")
    assert queue.ahead_of(ask("flood")) == 4
    assert queue.ahead_of(ask("new")) == 1
    assert queue.ahead_of(ask("new", priority="high")) == 1  # the first of another class that holds nothing
    queue.started(ask("flood"))
    assert queue.ahead_of(ask("new")) == 0  # the flood has had more
    assert queue.ahead_of(ask("new", priority="high")) == 0


def test_the_last_to_leave_takes_the_flow_along(queue: Queue) -> None:
    waiter = queue.add()
    queue.remove(waiter)
    queue.remove(waiter)
    assert (len(queue), queue.flows(), list(queue)) == (0, set(), [])


Call = tuple[str, str, Priority, int]
calls = st.lists(
    st.tuples(
        st.sampled_from(["push", "serve", "drop", "end"]),
        st.sampled_from("abc"),
        st.sampled_from(["high", "normal", "low"]),
        st.integers(1, 5000),
    ),
    max_size=60,
)


@given(calls)
def test_nobody_is_lost_or_served_twice(sequence: list[Call]) -> None:
    loop = asyncio.new_event_loop()
    queue = Queue(loop)
    waiting: list[Waiter] = []
    running: list[Waiter] = []
    for what, key, priority, tokens in sequence:
        if what == "push":
            ahead = queue.ahead_of(ask(key, priority=priority))
            assert 0 <= ahead <= len(queue)
            waiting.append(queue.add(key, priority, tokens=tokens))
        elif what == "serve" and waiting:
            running.append(queue.serve())
            waiting.remove(running[-1])
        elif what == "drop" and waiting:
            queue.remove(waiting.pop(tokens % len(waiting)))
        elif what == "end" and running:
            queue.ended(running.pop(tokens % len(running)).ask)
        assert set(queue) == set(waiting)
        assert len(queue) == len(waiting)
        assert bool(queue.candidates()) == bool(waiting)
        assert sum(queue.held.values()) == sum(w.ask.estimate.tokens for w in running)
    loop.close()
