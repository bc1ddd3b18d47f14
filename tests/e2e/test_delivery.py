"""Delivery streams on the real server: what a request's own stream would bring, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from gpt_oss_triton.errors import EngineUnavailable, InvalidRequest
from gpt_oss_triton.wire import (
    Accepted,
    Batch,
    Deliver,
    Delivery,
    Finished,
    GenerationOptions,
    Message,
    PromptRequest,
)
from tests.e2e.triton_direct_client import ENGINE, DirectClient, Stream, TritonRefused

Until = Callable[[Callable[[], bool], str], None]

TOKENS = 40
PROMPTS = [PromptRequest([Message("user", f"Count to {number}.")]) for number in range(8)]
ENDLESS = 50_000


@pytest.fixture
def delivery(client: DirectClient, request: pytest.FixtureRequest) -> Iterator[Stream]:
    """Its id is the test's name."""
    with client.open(ENGINE, control=Deliver(request.node.name)) as stream:
        assert stream.next().event == Batch([], [])
        yield stream


def options(delivery: Delivery | None = None, tokens: int = TOKENS) -> GenerationOptions:
    return GenerationOptions(max_tokens=tokens, temperature=0, ignore_eos=True, delivery=delivery)


def collect(stream: Stream, expected: int) -> tuple[dict[int, list[int]], int]:
    """The tokens by ticket, up to `expected` in all, and the number of responses that brought them."""
    found: dict[int, list[int]] = {}
    responses = 0
    while sum(map(len, found.values())) < expected:
        response = stream.next()
        responses += 1
        assert isinstance(response.event, Batch)
        assert sum(response.event.counts) == len(response.token_ids)
        tokens = iter(response.token_ids)
        for ticket, count in zip(response.event.tickets, response.event.counts, strict=True):
            found.setdefault(ticket, []).extend(next(tokens) for _ in range(count))
    return found, responses


def test_batches_bring_what_the_streams_would(
    client: DirectClient, delivery: Stream, request: pytest.FixtureRequest
) -> None:
    alone = [
        [t for r in client.ask(prompt=prompt, options=options(), stream=True) for t in r.token_ids]
        for prompt in PROMPTS
    ]
    streams = [
        client.open(
            prompt=prompt,
            options=options(Delivery(request.node.name, ticket)),
            stream=True,
            return_text=False,
        )
        for ticket, prompt in enumerate(PROMPTS)
    ]
    found, responses = collect(delivery, TOKENS * len(PROMPTS))
    assert [found[ticket] for ticket in range(len(PROMPTS))] == alone
    assert responses < TOKENS * len(PROMPTS) / 2, "one response for several requests"
    for stream in streams:
        with stream:
            first, last = list(stream)
            assert isinstance(first.event, Accepted)
            assert isinstance(last.event, Finished)
            assert last.event.completion_tokens == TOKENS
            assert not first.token_ids + last.token_ids


def test_requests_end_when_their_delivery_stream_has_gone(
    client: DirectClient, delivery: Stream, until: Until, request: pytest.FixtureRequest
) -> None:
    streams = [
        client.open(
            prompt=prompt,
            options=options(Delivery(request.node.name, ticket), ENDLESS),
            stream=True,
            return_text=False,
        )
        for ticket, prompt in enumerate(PROMPTS)
    ]
    until(lambda: client.load().running == len(PROMPTS), "all run")
    delivery.disconnect()
    until(lambda: (client.load().running, client.load().blocks_used) == (0, 0), "the engine is idle")
    for stream in streams:
        with stream:
            assert list(stream)[-1].event.finish_reason == "cancelled"


def test_what_comes_on_its_own_stream_can_end_with_a_delivery_stream(
    client: DirectClient, delivery: Stream, until: Until, request: pytest.FixtureRequest
) -> None:
    scored = msgspec.structs.replace(options(Delivery(request.node.name, None), ENDLESS), logprobs=2)
    with client.open(prompt=PROMPTS[0], options=scored, stream=True) as stream:
        until(lambda: client.load().running == 1, "it runs")
        delivery.disconnect()
        until(lambda: (client.load().running, client.load().blocks_used) == (0, 0), "the engine is idle")
        *_, last_tokens, end = list(stream)
    assert end.event.finish_reason == "cancelled"
    assert last_tokens.token_ids, "its tokens came with it"


def test_a_delivery_stream_that_is_not_open(client: DirectClient) -> None:
    with pytest.raises(TritonRefused) as caught:
        client.ask(prompt=PROMPTS[0], options=options(Delivery("closed", 1)), stream=True, return_text=False)
    assert isinstance(caught.value.error, EngineUnavailable)


def test_text_does_not_come_in_batches(
    client: DirectClient, delivery: Stream, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(TritonRefused) as caught:
        client.ask(prompt=PROMPTS[0], options=options(Delivery(request.node.name, 1)), stream=True)
    assert isinstance(caught.value.error, InvalidRequest)
    assert caught.value.error.param == "delivery"
