from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from frontend.dispatch import Dispatch
from frontend.triton import Answer
from gpt_oss_triton.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    Overloaded,
    ServiceError,
)
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Accepted, Finished, Timings


@dataclass
class FakeReservation:
    exact: tuple[int, int] | None = None
    blocks_held: int = 2
    released: int = 0

    def accepted(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.exact = (prompt_tokens, cached_tokens)

    def release(self) -> None:
        self.released += 1


class FakeAdmission:
    """Places a request on the first target that it has not tried."""

    def __init__(self, *targets: str) -> None:
        self.targets = targets
        self.placements: list[Any] = []
        self.settled: list[Any] = []
        self.full = asyncio.Event()
        self.full.set()

    async def enter(self, ask: Any) -> Any:
        await self.full.wait()
        left = [name for name in self.targets if name not in ask.excluded]
        if not left:
            raise EngineUnavailable("nobody")
        verdicts: list[BaseException | None] = []
        answered: list[bool] = []

        def record(error: BaseException | None, *, answered: bool, told: list[bool] = answered) -> None:
            verdicts.append(error)
            told.append(answered)

        target = SimpleNamespace(
            name=left[0],
            load=None,
            verdicts=verdicts,
            answered=answered,
            breaker=SimpleNamespace(record=record),
        )
        placement = SimpleNamespace(target=target, reason="only", reservation=FakeReservation())
        self.placements.append(placement)
        return placement

    def finished(self, ask: Any) -> None:
        self.settled.append(ask)


class FakeGeneration:
    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.left = False

    async def __aenter__(self) -> FakeGeneration:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left = True

    async def accepted(self) -> Any:
        return await anext(self)

    async def __anext__(self) -> Any:
        if not self.script:
            raise StopAsyncIteration
        step = self.script.pop(0)
        if isinstance(step, ServiceError):
            raise step
        return step

    def stop(self, error: ServiceError) -> None:
        self.script = [error]


pytestmark = pytest.mark.anyio

ACCEPTED = Accepted(prompt_tokens=9, cached_tokens=4)
TOKEN = Answer([1], None)
END = Answer([2], Finished("stop", 9, 2, 4, blocks=1, timings=Timings(10.0, 10.5, 11.0, 12.0)))
LOST = EngineUnavailable("lost")


def dispatch(admission: FakeAdmission, **scripts: list[Any]) -> tuple[Dispatch, Any]:
    ask = SimpleNamespace(
        excluded=set(), record=RequestRecord("r", TraceContext.new(), "POST", "/v1/chat/completions")
    )
    generations = {name: FakeGeneration(list(script)) for name, script in scripts.items()}
    made = Dispatch(admission, ask, lambda placement: generations[placement.target.name])  # type: ignore[arg-type, return-value]
    return made, ask


async def run(made: Dispatch) -> list[Answer]:
    async with made:
        await made.accepted()
        return [answer async for answer in made]


async def test_one_target_answers() -> None:
    admission = FakeAdmission("a")
    made, ask = dispatch(admission, a=[ACCEPTED, TOKEN, END])
    assert await run(made) == [TOKEN, END]
    (placement,) = admission.placements
    assert placement.reservation == FakeReservation(exact=(9, 4), released=1)
    assert placement.target.verdicts == [None]
    assert admission.settled == [ask]
    record = ask.record
    assert (record.target, record.counts) == ("a", TokenCounts(prompt=9, cached=4))
    assert (record.reserved_blocks, record.blocks, record.attempts[0].failed) == (2, 1, None)
    assert record.accepted <= record.first_token <= record.last_token


@pytest.mark.parametrize("script", [[LOST], [ACCEPTED, LOST], [Overloaded("its queue is full")]])
async def test_a_request_without_a_token_is_tried_on_another_target(script: list[Any]) -> None:
    admission = FakeAdmission("a", "b")
    made, ask = dispatch(admission, a=script, b=[ACCEPTED, TOKEN, END])
    assert await run(made) == [TOKEN, END]
    assert [p.reservation.released for p in admission.placements] == [1, 1]
    assert [attempt.failed for attempt in ask.record.attempts] == [script[-1].code, None]
    assert len(admission.settled) == 1


async def test_a_request_with_a_token_is_not_repeated() -> None:
    admission = FakeAdmission("a", "b")
    made, _ = dispatch(admission, a=[ACCEPTED, TOKEN, LOST], b=[ACCEPTED, TOKEN, END])
    with pytest.raises(EngineUnavailable, match="lost"):
        await run(made)
    assert len(admission.placements) == 1


async def test_there_is_no_third_try() -> None:
    broken = InternalError("broken")
    made, ask = dispatch(FakeAdmission("a", "b", "c"), a=[LOST], b=[broken], c=[ACCEPTED, END])
    with pytest.raises(InternalError, match="broken"):
        await run(made)
    assert [attempt.failed for attempt in ask.record.attempts] == [LOST.code, broken.code]


@pytest.mark.parametrize("script", [[LOST], [ACCEPTED, LOST], [ACCEPTED, TOKEN, LOST]])
async def test_what_ended_the_last_attempt_is_noted(script: list[Any]) -> None:
    made, ask = dispatch(FakeAdmission("a"), a=script)
    with pytest.raises(EngineUnavailable):
        await run(made)
    assert [attempt.failed for attempt in ask.record.attempts] == [LOST.code]


async def test_without_another_target_the_first_failure_is_told() -> None:
    made, _ = dispatch(FakeAdmission("a"), a=[LOST])
    with pytest.raises(EngineUnavailable, match="lost"):
        await run(made)


async def test_the_callers_fault_is_not_repeated() -> None:
    admission = FakeAdmission("a", "b")
    made, _ = dispatch(admission, a=[InvalidRequest("too long")], b=[ACCEPTED, END])
    with pytest.raises(InvalidRequest):
        await run(made)
    assert admission.placements[0].reservation.released == 1


async def test_stop_ends_the_wait_for_a_place() -> None:
    admission = FakeAdmission("a")
    admission.full.clear()
    made, _ = dispatch(admission, a=[ACCEPTED, END])
    running = asyncio.create_task(run(made))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    made.stop(Cancelled("gone"))
    with pytest.raises(Cancelled, match="gone"):
        await running
    assert admission.placements == []


async def test_a_place_that_comes_with_the_stop_is_given_back() -> None:
    admission = FakeAdmission("a")
    admission.full.clear()
    made, _ = dispatch(admission, a=[ACCEPTED, END])
    running = asyncio.create_task(run(made))
    for _ in range(3):
        await asyncio.sleep(0)
    admission.full.set()
    await asyncio.sleep(0)  # the place is given in this turn of the loop
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    assert sum(p.reservation.released for p in admission.placements) == len(admission.placements)


async def test_a_stopped_request_is_not_repeated() -> None:
    admission = FakeAdmission("a", "b")
    made, _ = dispatch(admission, a=[ACCEPTED, TOKEN, END], b=[ACCEPTED, END])
    async with made:
        await made.accepted()
        made.stop(EngineUnavailable("draining"))
        with pytest.raises(EngineUnavailable, match="draining"):
            await anext(made)
    assert len(admission.placements) == 1


async def test_a_stop_in_the_moment_in_which_the_place_comes_ends_the_request() -> None:
    admission = FakeAdmission("a")
    admission.full.clear()
    made, _ = dispatch(admission, a=[ACCEPTED, TOKEN, END])
    running = asyncio.create_task(run(made))
    for _ in range(3):
        await asyncio.sleep(0)
    admission.full.set()
    while not admission.placements:  # noqa: ASYNC110 - the next turn of the loop is the point
        await asyncio.sleep(0)
    made.stop(Cancelled("gone"))
    with pytest.raises(Cancelled, match="gone"):
        await running
    assert [p.reservation.released for p in admission.placements] == [1]


@pytest.mark.parametrize("begun", [False, True])
async def test_the_breaker_hears_whether_the_engine_had_taken_what_failed(begun: bool) -> None:
    admission, late = FakeAdmission("a"), DeadlineExceeded("late")
    made, _ = dispatch(admission, a=[ACCEPTED, TOKEN, late] if begun else [late])
    with pytest.raises(DeadlineExceeded):
        await run(made)
    (placement,) = admission.placements
    assert (placement.target.verdicts, placement.target.answered) == ([late], [begun])


async def test_the_breaker_hears_of_a_failure_that_the_reader_keeps_to_itself() -> None:
    admission = FakeAdmission("a")
    broken = InternalError("broken")
    made, _ = dispatch(admission, a=[ACCEPTED, TOKEN, broken])
    async with made:
        await made.accepted()
        with pytest.raises(InternalError):
            async for _ in made:
                pass
    assert admission.placements[0].target.verdicts == [broken]


@pytest.mark.parametrize("begun", [False, True])
async def test_each_targets_breaker_hears_of_its_own_failure(begun: bool) -> None:
    admission, broken = FakeAdmission("a", "b"), InternalError("broken")
    made, _ = dispatch(admission, a=[ACCEPTED, broken] if begun else [broken], b=[LOST])
    with pytest.raises(InternalError, match="broken"):
        await run(made)
    assert [placement.target.verdicts for placement in admission.placements] == [[broken], [LOST]]
