"""The delivery stream, on a gRPC server whose engine does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from frontend.deliveries import Answers, DeliveredAnswers, Deliveries, Ticket
from frontend.triton import Answer, Triton
from gpt_oss_triton import wire
from gpt_oss_triton.errors import Cancelled, EngineUnavailable, InternalError, InvalidRequest
from gpt_oss_triton.wire import Accepted, Finished, GenerationOptions, Message, PromptRequest
from tests.unit.frontend.fake_triton import ENGINE, ENSEMBLE, FakeTriton, Request, accepted, finished

pytestmark = pytest.mark.anyio

PROMPT = PromptRequest([Message("user", "hi")])


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as fake:
        yield fake


@pytest.fixture
async def triton(fake: FakeTriton) -> AsyncIterator[Triton]:
    triton = Triton(f"127.0.0.1:{fake.port}")
    yield triton
    await triton.close()


@pytest.fixture
async def deliveries(triton: Triton) -> AsyncIterator[Deliveries]:
    deliveries = Deliveries(triton, ENGINE)
    task = asyncio.create_task(deliveries.run())
    yield deliveries
    task.cancel()


async def opened(deliveries: Deliveries) -> Ticket:
    """A ticket, once there are any."""
    deliveries.engine_lives()
    for _ in range(500):
        if (ticket := deliveries.ticket()) is not None:
            return ticket
        await asyncio.sleep(0.01)
    pytest.fail("no delivery stream was opened")


def ask(triton: Triton, ticket: Ticket) -> DeliveredAnswers:
    options = GenerationOptions(delivery=ticket.delivery)
    return DeliveredAnswers(triton.generate(ENSEMBLE, "r", PROMPT, options), ticket)


async def read_all(answers: Answers) -> list[Answer]:
    async with asyncio.timeout(5):
        return [answer async for answer in _iterate(answers)]


async def _iterate(answers: Answers) -> AsyncIterator[Answer]:
    while (answer := await answers.read()) is not None:
        yield answer


async def test_no_tickets_before_the_engine_lives(deliveries: Deliveries) -> None:
    await asyncio.sleep(0.05)
    assert deliveries.ticket() is None


async def test_the_tokens_come_between_the_first_event_and_the_last(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    async def script(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
        yield [1, 2], None  # overtakes the acceptance
        await asyncio.sleep(0.05)
        yield accepted()
        yield finished([], count=5)
        await asyncio.sleep(0.05)  # ... and these are overtaken by the end
        yield [3], None
        yield [4, 5], None

    fake.script = script
    answers = await read_all(ask(triton, await opened(deliveries)))
    assert isinstance(answers[0].event, Accepted)
    assert not answers[0].token_ids
    assert isinstance(answers[-1].event, Finished)
    assert [token for answer in answers for token in answer.token_ids] == [1, 2, 3, 4, 5]


async def test_a_refusal_comes_through(fake: FakeTriton, triton: Triton, deliveries: Deliveries) -> None:
    async def script(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
        raise InvalidRequest("No.", param="seed")
        yield accepted()

    fake.script = script
    with pytest.raises(InvalidRequest, match=r"No\."):
        await read_all(ask(triton, await opened(deliveries)))


async def test_a_failure_comes_after_the_tokens(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    async def script(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
        yield accepted()
        yield [1, 2], None
        await asyncio.sleep(0.05)
        raise InternalError("Broken.")

    fake.script = script
    answers = ask(triton, await opened(deliveries))
    assert isinstance(await answers.read(), Answer)
    assert await answers.read() == Answer([1, 2], None)
    with pytest.raises(InternalError, match="Broken"):
        await answers.read()


async def hold(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
    """Some tokens of more."""
    yield accepted()
    yield [1], None
    yield finished([], count=2)
    await asyncio.Event().wait()


async def test_open_requests_fail_when_the_delivery_stream_ends(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    fake.script = hold
    ticket = await opened(deliveries)
    reading = asyncio.create_task(read_all(ask(triton, ticket)))
    await asyncio.sleep(0.1)
    fake.deliveries[ticket.delivery.stream].put_nowait(None)
    with pytest.raises(EngineUnavailable):
        await reading
    assert deliveries.ticket() is None, "the next ones use their own streams"
    assert (await opened(deliveries)).delivery.stream != ticket.delivery.stream


async def test_a_new_life_of_the_engine_gets_a_new_stream(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    fake.script = hold
    ticket = await opened(deliveries)
    reading = asyncio.create_task(read_all(ask(triton, ticket)))
    await asyncio.sleep(0.1)
    deliveries.engine_lost()
    assert deliveries.ticket() is None
    with pytest.raises(EngineUnavailable):
        await reading
    assert (await opened(deliveries)).delivery.stream != ticket.delivery.stream


async def test_whoever_waits_for_tokens_is_told_of_the_cancellation(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    fake.script = hold
    answers = ask(triton, await opened(deliveries))
    reading = asyncio.create_task(read_all(answers))
    await asyncio.sleep(0.1)
    answers.cancel()
    with pytest.raises(Cancelled):
        await reading


async def test_a_closed_ticket_leaves_nothing(
    fake: FakeTriton, triton: Triton, deliveries: Deliveries
) -> None:
    ticket = await opened(deliveries)
    answers = ask(triton, ticket)
    await read_all(answers)
    await answers.end(1)
    assert not deliveries._tickets
    fake.deliveries[ticket.delivery.stream].put_nowait(([7], wire.Batch([ticket.delivery.ticket], [1])))
    await asyncio.sleep(0.05)
    assert not deliveries._tickets
