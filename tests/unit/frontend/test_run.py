from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from frontend.run import Run
from frontend.run_request import RunRequest
from frontend.triton import Answer
from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Finished, GenerationOptions, PromptRequest

pytestmark = pytest.mark.anyio

REQUEST = RunRequest("m", PromptRequest(text="Once"), GenerationOptions(), False)
TOKENS = Answer([1, 2], None)
END = Answer([3], Finished("stop", 9, 3, 4))


class FakeDispatch:
    def __init__(self, script: list[Any]) -> None:
        self.script = script

    async def __aenter__(self) -> FakeDispatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def accepted(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[Answer]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            yield step


def made(script: list[Any], *, cached: bool = False) -> tuple[Run, RequestRecord]:
    record = RequestRecord("r", TraceContext.new(), "POST", "/v1/completions")
    service = SimpleNamespace(
        response_cache=SimpleNamespace(replay=lambda key: aiter(FakeDispatch(script))),
        cache_key=lambda *_: b"key" if cached else None,
        admission=SimpleNamespace(pass_by=lambda ask: None),
        dispatch=lambda *_: FakeDispatch(script),
    )
    ask = SimpleNamespace(record=record, caller=None, ensemble="e")
    return Run(service, REQUEST, ask, None, "id"), record  # type: ignore[arg-type]


async def test_tokens_are_counted_when_they_are_read() -> None:
    run, record = made([TOKENS, END])
    await run.accepted()
    seen = [(answer, record.counts.completion) async for answer in run]
    assert seen == [(TOKENS, 2), (END, 3)]
    assert record.counts == TokenCounts(prompt=9, cached=4, completion=3)


async def test_tokens_of_an_answer_that_breaks_are_counted() -> None:
    run, record = made([TOKENS, TOKENS, EngineUnavailable("lost")])
    await run.accepted()
    with pytest.raises(EngineUnavailable):
        async for _ in run:
            pass
    assert record.counts == TokenCounts(completion=4)


async def test_an_answer_from_the_cache_is_counted_as_well() -> None:
    run, record = made([END], cached=True)
    await run.accepted()
    assert [answer async for answer in run] == [END]
    assert (record.response_cache, record.counts) == ("hit", TokenCounts(9, 4, 3))


async def test_it_is_read_once_it_is_accepted() -> None:
    run, _ = made([])
    with pytest.raises(RuntimeError):
        async for _ in run:
            pass
