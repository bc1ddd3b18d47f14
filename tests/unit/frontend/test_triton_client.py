"""What the shim asks of Triton beside answers, as Triton gets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from frontend.triton import Triton
from gpt_oss_triton import wire
from tests.unit.frontend.fake_triton import ENGINE, ENSEMBLE, LOAD, FakeTriton

pytestmark = pytest.mark.anyio

PROMPT = wire.PromptRequest([wire.Message("user", "hi")])
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class RecordingTriton(FakeTriton):
    """Attributes:
    asked: controls, in order.
    metadata: of each stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[wire.Control] = []
        self.metadata: list[dict[str, str]] = []

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        async for response in super().ModelStreamInfer(requests, context):
            yield response

    async def _control(self, control: wire.Control) -> AsyncIterator[tuple[list[int], wire.Event]]:
        self.asked.append(control)
        yield [], LOAD


@pytest.fixture
async def fake() -> AsyncIterator[RecordingTriton]:
    async with RecordingTriton() as server:
        yield server


@pytest.fixture
async def triton(fake: RecordingTriton) -> AsyncIterator[Triton]:
    client = Triton(f"127.0.0.1:{fake.port}")
    yield client
    await client.close()


@pytest.mark.parametrize("traceparent", [TRACEPARENT, None])
async def test_a_trace_goes_on_into_triton(
    triton: Triton, fake: RecordingTriton, traceparent: str | None
) -> None:
    stream = triton.generate(ENSEMBLE, "r", PROMPT, wire.GenerationOptions(), traceparent)
    while await stream.read() is not None:
        pass
    (metadata,) = fake.metadata
    assert metadata.get("traceparent") == traceparent


async def test_controls(triton: Triton, fake: RecordingTriton) -> None:
    assert await triton.tune(ENGINE, 128, 5.0) == LOAD
    assert await triton.tune(ENGINE, None, 5.0) == LOAD
    assert await triton.end_leases(ENGINE, ["a", "b"], 5.0) == LOAD
    assert fake.asked == [wire.Tune(128), wire.Tune(None), wire.EndLeases(["a", "b"])]
