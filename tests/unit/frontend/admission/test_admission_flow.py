"""One request after another through admission, with targets that are nothing but room."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.admission.admission import Admission, Placement
from frontend.admission.ask import Ask
from frontend.admission.capacity import Capacity
from frontend.admission.fair_queue import Waiter
from frontend.admission.lane import Lane
from frontend.admission.refusal import Refusal
from frontend.caller import KeyLimits
from gpt_oss_triton.config import FrontendSettings, Priority
from gpt_oss_triton.errors import (
    DeadlineExceeded,
    EngineUnavailable,
    Overloaded,
    RateLimited,
    ServiceError,
)
from gpt_oss_triton.telemetry.record import Attempt
from gpt_oss_triton.wire import Message, PromptRequest
from tests.unit.frontend.admission.asks import ENSEMBLE, FakeRouter, FakeTarget, ask, load
from tests.unit.frontend.admission.virtual_time import now, run_virtual


@dataclasses.dataclass
class House:
    """Admission in front of targets with `slots` places each."""

    admission: Admission
    router: FakeRouter

    @property
    def capacity(self) -> Capacity:
        return self.router.targets[0].capacity

    @property
    def queued(self) -> int:
        queued: int = self.admission.stats()["queued"]
        return queued

    @property
    def decisions(self) -> Counter[str]:
        return Counter(self.admission.stats()["decisions"])

    def enter(self, asked: Ask) -> asyncio.Task[Placement]:
        return asyncio.create_task(self.admission.enter(asked))

    def leave(self, asked: Ask, placement: Placement) -> None:
        placement.reservation.release()
        asked.record.counts.came(asked.estimate.output_tokens, None)
        self.admission.finished(asked)

    async def serve(self, asked: Ask, seconds: float) -> None:
        """A whole request that takes so long."""
        placement = await self.admission.enter(asked)
        placement.reservation.accepted(asked.estimate.prompt_tokens, 0)
        await asyncio.sleep(seconds)
        self.leave(asked, placement)

    async def work_fast(self) -> None:
        """So many short requests that a queue of a few is no long wait."""
        for _ in range(100):
            await self.serve(ask(), 0.05)


def house(slots: int = 1, *, targets: int = 1, blocks: int = 10_000, **values: Any) -> House:
    made = [FakeTarget(Capacity(now), f"target {n}") for n in range(targets)]
    for target in made:
        target.capacity.report(load(max_sequences=slots, blocks_total=blocks))
    router = FakeRouter(made)
    given = FrontendSettings(models={ENSEMBLE: ENSEMBLE}, **values)
    return House(Admission(router, given, now, now), router)  # type: ignore[arg-type]


def virtual(test: Coroutine[Any, Any, None]) -> None:
    run_virtual(test)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def fails(task: asyncio.Task[Placement], kind: type[ServiceError]) -> ServiceError:
    with pytest.raises(kind) as caught:
        await task
    assert type(caught.value) is kind
    return caught.value


# ------------------------------------------------------------------------------------------ let in


def test_a_request_that_fits_is_placed_and_noted() -> None:
    async def main() -> None:
        h, asked = house(), ask(prompt=200, output=56)
        placement = await h.admission.enter(asked)
        assert (placement.target, placement.reason) == (h.router.targets[0], "only")
        record = asked.record
        assert (record.admission, record.priority) == ("admitted", "normal")
        assert (record.priced_tokens, record.priced_blocks) == (256, 16)
        assert record.admitted == now()
        assert record.queued is None
        assert h.router.placed_asks == [asked]
        h.leave(asked, placement)
        assert (h.capacity.in_flight, h.capacity.blocks_reserved) == (0, 0)

    virtual(main())


def test_the_next_in_line_waits_and_gets_the_place_that_becomes_free() -> None:
    async def main() -> None:
        h, first, second = house(), ask(), ask()
        placement = await h.admission.enter(first)
        waiting = h.enter(second)
        await asyncio.sleep(0.5)
        assert h.admission.stats()["queued_by_priority"] == {"high": 0, "normal": 1, "low": 0}
        h.leave(first, placement)
        h.leave(second, await waiting)
        assert second.record.queued == 0.0
        assert second.record.admitted == 0.5
        assert h.queued == h.capacity.in_flight == 0
        assert h.decisions == {"admitted": 2}

    virtual(main())


def test_a_report_that_shows_room_wakes_who_waits() -> None:
    async def main() -> None:
        h, asked = house(), ask()
        h.capacity.report(load(blocks_total=100, blocks_used=90, running=1))
        waiting = h.enter(asked)
        await settle()
        assert h.queued == 1
        h.capacity.report(load())
        h.admission.wake()
        h.leave(asked, await waiting)

    virtual(main())


def test_a_request_larger_than_the_cache_waits_until_it_is_alone() -> None:
    async def main() -> None:
        h = house(slots=4, blocks=50)
        small, large = ask(output=8), ask(prompt=5000)
        placement = await h.admission.enter(small)
        waiting = h.enter(large)
        await settle()
        assert h.queued == 1
        h.leave(small, placement)
        h.leave(large, await waiting)
        assert h.capacity.in_flight == 0

    virtual(main())


def test_small_requests_pass_a_large_one_that_does_not_fit_but_not_for_ever() -> None:
    async def main() -> None:
        h = house(slots=64, blocks=400, queue_wait_s=1000.0)
        running = [ask(output=8) for _ in range(2)]
        placements = [await h.admission.enter(one) for one in running]
        large = ask(prompt=6000)  # 379 blocks: it fits when it is alone
        waiting = h.enter(large)
        await settle()
        for _ in range(16):
            small = ask(output=8)
            h.leave(small, await h.admission.enter(small))
        await fails(h.enter(ask(output=8)), Overloaded)
        for one, placement in zip(running, placements, strict=True):
            h.leave(one, placement)
        h.leave(large, await waiting)

    virtual(main())


def test_the_estimate_learns_from_what_was_counted() -> None:
    async def main() -> None:
        h = house(slots=8)
        prompt = PromptRequest([Message("user", "x" * 10_000)])
        for _ in range(50):
            asked = ask()
            asked.estimate = h.admission.estimate(ENSEMBLE, prompt, 8)
            placement = await h.admission.enter(asked)
            asked.record.counts.accepted(1056, 0)
            h.leave(asked, placement)
        assert h.admission.estimate(ENSEMBLE, prompt, 8).prompt_tokens == pytest.approx(1056, rel=0.05)

    virtual(main())


# ----------------------------------------------------------------------------------------- refused


def test_who_would_wait_too_long_is_refused_at_once_and_told_its_turn() -> None:
    async def main() -> None:
        h = house()
        for _ in range(30):
            await h.serve(ask(), 2.0)
        tasks = [h.enter(ask()) for _ in range(2)]  # one runs, one is next
        await settle()
        before = now()
        error = await fails(h.enter(asked := ask()), Overloaded)
        assert now() == before
        assert (asked.record.admission, asked.charge) == ("wait", None)
        assert error.retry_after_s is not None
        assert 2 <= error.retry_after_s <= 10
        assert error.code == "overloaded"
        assert f"{error.retry_after_s:g} s" in error.message
        for task in tasks:
            task.cancel()

    virtual(main())


def test_a_refused_request_is_let_in_when_it_obeys_and_a_fresh_one_is_not() -> None:
    async def main() -> None:
        h = house(queue_wait_s=30.0)

        async def keep_busy() -> None:
            while True:
                await h.serve(ask(), 1.0)

        for _ in range(20):
            await h.serve(ask(), 1.0)
        busy = [asyncio.create_task(keep_busy()) for _ in range(2)]  # one runs, one is next
        await asyncio.sleep(3.2)
        refused = ask(booking=b"mine")
        error = await fails(h.enter(refused), Overloaded)
        early = await fails(h.enter(ask(booking=b"mine")), Overloaded)
        assert h.decisions["too_early"] == 1
        assert early.retry_after_s == error.retry_after_s
        assert error.retry_after_s is not None
        await asyncio.sleep(error.retry_after_s)
        await fails(h.enter(ask()), Overloaded)
        placement = await h.admission.enter(back := ask(booking=b"mine"))
        h.leave(back, placement)
        for task in busy:
            task.cancel()

    virtual(main())


def test_the_queue_is_bounded_also_while_nothing_is_known_of_the_service() -> None:
    async def main() -> None:
        h = house(max_queue=3)
        h.capacity.report(load(max_sequences=1, running=1))  # somebody else's
        tasks = [h.enter(ask("flood")) for _ in range(4)]
        await settle()
        assert (h.queued, h.decisions["queue_full"]) == (3, 1)
        others = [h.enter(ask(f"{n}")) for n in range(3)]
        await settle()
        assert h.queued == 5  # less than its share of the queue: a third, then nothing
        for task in [*tasks, *others]:
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)
        assert h.queued == 0

    virtual(main())


def test_without_a_queue_who_does_not_fit_is_refused() -> None:
    async def main() -> None:
        h = house(max_queue=0)
        await h.admission.enter(ask())
        await fails(h.enter(ask()), Overloaded)

    virtual(main())


def test_the_callers_limits_come_first_and_are_given_back() -> None:
    async def main() -> None:
        h = house(slots=8)
        one = KeyLimits(concurrency=1, tokens_per_minute=1000)
        asked = ask(prompt=500, output=300, limits=one)
        placement = await h.admission.enter(asked)
        refused = ask(limits=one)
        error = await fails(h.enter(refused), RateLimited)
        assert (error.param, refused.record.admission) == (None, "rate_concurrency")
        assert h.admission.limit_headers(asked.caller)["x-ratelimit-remaining-tokens"] == "200"
        asked.record.counts.accepted(400, 0)
        asked.record.counts.came(100, None)
        placement.reservation.release()
        h.admission.finished(asked)
        h.admission.finished(asked)
        assert h.admission.limit_headers(asked.caller)["x-ratelimit-remaining-tokens"] == "500"

    virtual(main())


def answers(count: int, **values: Any) -> list[Ask]:
    """One request's."""
    first, *others = (ask(**values) for _ in range(count))
    for other in others:
        other.first = first
    return [first, *others]


def test_several_answers_are_one_request_of_their_caller() -> None:
    async def main() -> None:
        h = house(slots=8)
        limits = KeyLimits(concurrency=1, requests_per_minute=2, tokens_per_minute=1000)
        asked = answers(3, prompt=200, output=200, limits=limits)
        placements = [await entering for entering in [h.enter(one) for one in asked]]
        headers = h.admission.limit_headers(asked[0].caller)
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-remaining-tokens"] == "0", "400 for each"
        for one, placement in zip(asked, placements, strict=True):
            await fails(h.enter(ask(limits=limits)), RateLimited)
            h.leave(one, placement)
        assert h.capacity.in_flight == 0

    virtual(main())


def test_a_request_that_is_let_in_gets_all_its_answers_however_many_run_at_once() -> None:
    async def main() -> None:
        h = house(slots=2, max_queue=0, queue_wait_s=0.5)
        asked = answers(9)
        await asyncio.gather(*(h.serve(one, 10.0) for one in asked))
        assert h.decisions == Counter(admitted=9)
        assert h.queued == 0

    virtual(main())


def test_the_wait_of_further_answers_is_no_pressure_on_others() -> None:
    async def main() -> None:
        h = house(slots=2, queue_wait_s=5.0)
        serving = [asyncio.create_task(h.serve(one, 20.0)) for one in answers(8)]
        for _ in range(300):
            h.admission.wake()
            assert h.admission.stats()["level"] == 0
            await asyncio.sleep(0.2)
        await asyncio.gather(*serving)

    virtual(main())


def test_the_wait_of_a_request_behind_them_is() -> None:
    async def main() -> None:
        h = house(slots=2, queue_wait_s=5.0)
        serving = [asyncio.create_task(h.serve(one, 20.0)) for one in answers(16)]
        await settle()
        lane = h.admission._lanes[ENSEMBLE]
        behind = Waiter(ask(), now(), asyncio.get_running_loop().create_future())
        lane.queue.push(behind)
        await asyncio.sleep(5.0)
        assert lane.pressure >= 1
        lane.queue.remove(behind)
        assert lane.pressure < 1
        await asyncio.gather(*serving)

    virtual(main())


def test_a_drain_lets_requests_have_all_their_answers() -> None:
    async def main() -> None:
        h = house(slots=1)
        serving = [asyncio.create_task(h.serve(one, 2.0)) for one in answers(3)]
        await settle()
        waiting = Waiter(ask(), now(), asyncio.get_running_loop().create_future())
        h.admission._lanes[ENSEMBLE].queue.push(waiting)
        h.admission.drain()
        refusal = waiting.placed.exception()
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "draining"
        h.admission._lanes[ENSEMBLE].queue.remove(waiting)
        await asyncio.sleep(3.0)
        h.admission.end_waits()
        results = await asyncio.gather(*serving, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), type(None), EngineUnavailable]

    virtual(main())


def test_a_request_of_several_answers_runs_until_the_last_has_ended() -> None:
    async def main() -> None:
        h, limits = house(slots=8), KeyLimits(concurrency=2)
        asked = answers(4, limits=limits)
        placements = [await entering for entering in [h.enter(one) for one in asked]]
        other = ask(limits=limits)
        place = await h.admission.enter(other)
        await fails(h.enter(ask(limits=limits)), RateLimited)
        for one, placement in zip(asked[:-1], placements, strict=False):
            h.leave(one, placement)
        await fails(h.enter(ask(limits=limits)), RateLimited)
        h.leave(asked[-1], placements[-1])
        await h.admission.enter(ask(limits=limits))
        h.leave(other, place)

    virtual(main())


def test_with_its_first_answer_a_request_is_refused() -> None:
    async def main() -> None:
        h = house(max_queue=0)
        await h.admission.enter(ask())
        errors = [await fails(entering, Overloaded) for entering in [h.enter(one) for one in answers(3)]]
        assert len({id(error) for error in errors}) == 1
        assert h.queued == 0

    virtual(main())


def test_a_request_refused_for_want_of_room_costs_its_caller_nothing() -> None:
    async def main() -> None:
        h = house(max_queue=0)
        await h.admission.enter(ask())
        limits = KeyLimits(requests_per_minute=10, tokens_per_minute=1000, concurrency=1)
        for _ in range(5):
            await fails(h.enter(ask("other", limits=limits)), Overloaded)
        headers = h.admission.limit_headers(ask("other", limits=limits).caller)
        assert headers["x-ratelimit-remaining-requests"] == "10"
        assert headers["x-ratelimit-remaining-tokens"] == "1000"

    virtual(main())


def test_no_engine_is_a_503_for_who_comes_and_who_waits() -> None:
    async def main() -> None:
        h = house()
        await h.admission.enter(ask())
        waiting = h.enter(ask())
        await settle()
        h.router.down = True
        h.admission.wake()
        await fails(waiting, EngineUnavailable)
        await fails(h.enter(ask()), EngineUnavailable)
        assert h.decisions == {"admitted": 1, "unavailable": 2}
        assert h.queued == 0

    virtual(main())


def test_a_deadline_ends_the_wait() -> None:
    async def main() -> None:
        h = house()
        await h.admission.enter(ask())
        waiting = h.enter(asked := ask(deadline=now() + 2.5))
        await fails(waiting, DeadlineExceeded)
        assert (now(), asked.record.admission, h.queued) == (2.5, "deadline", 0)

    virtual(main())


def test_draining_refuses_who_comes_and_who_waits_until_it_resumes() -> None:
    async def main() -> None:
        h, first = house(), ask()
        placement = await h.admission.enter(first)
        waiting = h.enter(ask())
        await settle()
        h.admission.drain()
        error = await fails(waiting, EngineUnavailable)
        assert error.retry_after_s == 5
        await fails(h.enter(ask()), EngineUnavailable)
        assert h.decisions["draining"] == 2
        h.leave(first, placement)
        h.admission.resume()
        await h.admission.enter(ask())

    virtual(main())


# ------------------------------------------------------------------------------------ cancellation


@pytest.mark.parametrize("steps", range(6))
def test_cancelling_at_any_moment_leaks_nothing(steps: int) -> None:
    async def main() -> None:
        h, first = house(), ask()
        placement = await h.admission.enter(first)
        second = ask(limits=KeyLimits(concurrency=1))
        waiting = h.enter(second)
        await settle()
        if steps >= 3:
            h.leave(first, placement)  # the place goes to the one that is cancelled
        for _ in range(steps % 3):
            await asyncio.sleep(0)
        waiting.cancel()
        if steps < 3:
            h.leave(first, placement)
        try:
            h.leave(second, await waiting)
        except asyncio.CancelledError:
            assert second.record.admission == "cancelled"
        assert h.queued == h.capacity.in_flight == h.capacity.blocks_reserved == 0
        assert second.charge is None
        assert h.admission.stats()["decisions"].get("admitted", 0) + h.decisions["cancelled"] == 2
        h.leave(third := ask(limits=KeyLimits(concurrency=1)), await h.admission.enter(third))

    virtual(main())


def test_a_cancelled_place_goes_to_the_next() -> None:
    async def main() -> None:
        h, first = house(), ask()
        await h.work_fast()
        placement = await h.admission.enter(first)
        waiting = [h.enter(ask(f"{n}")) for n in range(2)]
        await settle()
        h.leave(first, placement)
        waiting[0].cancel()
        assert (await waiting[1]).target is h.router.targets[0]

    virtual(main())


# -------------------------------------------------------------------------------------- once more


def test_a_request_that_lost_its_engine_is_charged_once_and_goes_first() -> None:
    async def main() -> None:
        h = house(targets=2)
        await h.work_fast()
        lost = ask(limits=KeyLimits(requests_per_minute=1))
        placement = await h.admission.enter(lost)
        other = ask("other")
        other_placement = await h.admission.enter(other)
        waiting = h.enter(ask("waiting", priority="high"))
        await settle()
        lost.excluded.add(placement.target.name)
        again = h.enter(lost)
        await settle()
        assert h.queued == 2
        h.leave(other, other_placement)
        assert (await again).target.name == "target 1"
        assert not waiting.done()
        waiting.cancel()

    virtual(main())


@pytest.mark.parametrize("full", [False, True])
def test_the_queue_time_of_a_request_that_lost_its_engine_is_of_its_first_wait(full: bool) -> None:
    async def main() -> None:
        h = house(targets=2)
        await h.work_fast()
        others = [ask("other"), ask("other")]
        placements = [await h.admission.enter(other) for other in others]
        lost = ask()
        entering = h.enter(lost)
        await settle()
        began = now()
        await asyncio.sleep(0.02)
        h.leave(others[0], placements[0])
        placement = await entering
        assert (lost.record.queued, lost.record.admitted) == (began, began + 0.02)
        await asyncio.sleep(5)
        lost.excluded.add(placement.target.name)
        if not full:
            h.leave(others[1], placements[1])
        again = h.enter(lost)
        await asyncio.sleep(1)
        if full:
            h.leave(others[1], placements[1])
        assert (await again).target is not placement.target
        assert (lost.record.queued, lost.record.admitted) == (began, began + 0.02)

    virtual(main())


@pytest.mark.parametrize(("tries", "limit_s"), [(1, 0.25 * 5.95), (2, 0.25)])
def test_what_a_lost_engine_took_says_nothing_of_the_others(tries: int, limit_s: float) -> None:
    lane, asked = Lane(FrontendSettings(models={ENSEMBLE: ENSEMBLE}), now), ask()
    asked.record.attempts = [Attempt("target", "only")] * tries
    asked.record.admitted, asked.record.first_token = 1000.0, 1100.0
    lane.learn(asked)
    assert lane.wait_limit_s == pytest.approx(limit_s)


# ------------------------------------------------------------------------------- under pressure


def test_pressure_sheds_by_class_and_tells_the_observer() -> None:
    async def main() -> None:
        h = house(slots=8, degrade_max_tokens=100, queue_wait_s=1000.0)
        seen: list[tuple[str, list[Any], int, int]] = []
        h.admission.on_level = lambda ensemble, targets, before, level: seen.append(
            (ensemble, list(targets), before, level)
        )
        first = ask()
        await h.admission.enter(first)
        low, normal, high = (ask(priority=p) for p in ("low", "normal", "high"))
        for _ in range(80):
            h.capacity.report(load(blocks_total=100, blocks_used=99, running=1))
            h.admission.wake()
            await asyncio.sleep(0.2)
        assert [(before, level) for _, _, before, level in seen] == [(0, 1), (1, 2), (2, 3), (3, 4)]
        assert seen[0][:2] == (ENSEMBLE, h.router.targets)
        assert h.admission.stats()["level"] == 4
        assert h.admission.answer_limit(ENSEMBLE) == 100
        for asked in (low, normal):
            error = await fails(h.enter(asked), Overloaded)
            assert asked.record.admission == "shed"
            assert error.retry_after_s is not None
        waiting = h.enter(high)
        await settle()
        assert not waiting.done()
        h.capacity.report(load())
        h.admission.wake()
        await waiting
        for _ in range(60):
            h.admission.wake()
            await asyncio.sleep(0.2)
        assert h.admission.stats()["level"] == 0
        assert h.admission.answer_limit(ENSEMBLE) is None

    virtual(main())


def test_who_holds_most_leaves_the_last_place_to_others() -> None:
    async def main() -> None:
        h = house(slots=10, queue_wait_s=1000.0)
        held = [ask("flood") for _ in range(8)]
        for one in held:
            await h.admission.enter(one)
        small = ask("small")
        await h.admission.enter(small)
        waiting = h.enter(ask("flood"))
        await settle()
        assert not waiting.done()
        await h.admission.enter(ask("third"))
        waiting.cancel()

    virtual(main())


# -------------------------------------------------------------------------------------- invariants

actions = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "cancel", "pass", "report", "down", "up"]),
        st.sampled_from("abc"),
        st.sampled_from(["high", "normal", "low"]),
        st.integers(1, 3000),
    ),
    max_size=80,
)


@settings(max_examples=60)
@given(actions, st.integers(1, 4), st.integers(0, 5))
def test_everybody_ends_as_exactly_one_thing(
    sequence: list[tuple[str, str, Priority, int]], slots: int, max_queue: int
) -> None:
    async def main() -> None:
        h = house(slots=slots, blocks=200, max_queue=max_queue)
        tasks: list[tuple[Ask, asyncio.Task[Placement]]] = []
        for what, key, priority, size in sequence:
            if what == "enter":
                asked = ask(key, priority=priority, prompt=size, deadline=now() + size / 100)
                tasks.append((asked, h.enter(asked)))
            elif what == "pass":
                await asyncio.sleep(size / 1000)
            elif what == "report":
                h.capacity.report(load(max_sequences=slots, blocks_total=200, blocks_used=size % 200))
                h.admission.wake()
            elif what in ("down", "up"):
                h.router.down = what == "down"
                h.admission.wake()
            elif tasks:
                asked, task = tasks[size % len(tasks)]
                placed = task.done() and not task.cancelled() and task.exception() is None
                if what == "cancel":
                    task.cancel()
                elif placed and asked.charge is not None:
                    h.leave(asked, task.result())
            await asyncio.sleep(0)
            assert h.capacity.blocks_reserved >= 0
            assert h.queued <= 2 * max_queue
            assert h.capacity.in_flight <= slots
        h.router.down = False
        for asked, task in tasks:
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            if isinstance(results[0], Placement) and asked.charge is not None:
                h.leave(asked, results[0])
        assert sum(h.decisions.values()) == len(tasks)
        assert all(asked.charge is None for asked, _ in tasks)
        assert h.queued == h.capacity.in_flight == h.capacity.blocks_reserved == 0

    virtual(main())
