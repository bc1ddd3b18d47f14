from __future__ import annotations

from typing import Any

import pytest

from gpt_oss_triton import wire
from gpt_oss_triton.errors import EngineUnavailable, InvalidRequest, Overloaded
from gpt_oss_triton.triton_backend import delivery_streams
from gpt_oss_triton.triton_backend.delivery_streams import DeliveryStream, DeliveryStreams
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.wire import Batch, Delivery

INTERVAL_S = 0.5


class Case:
    """One open stream whose sender is this test."""

    def __init__(self, request: Any) -> None:
        self.sender = request.sender
        self.ready: list[DeliveryStream] = []
        self.delays_s: list[float] = []
        self.streams = DeliveryStreams(INTERVAL_S, self._on_ready)
        self.streams.open("s", Responder(request))

    def _on_ready(self, stream: DeliveryStream, delay_s: float) -> None:
        self.ready.append(stream)
        self.delays_s.append(delay_s)

    def flush(self) -> None:
        for stream in self.ready:
            stream.flush()
        self.ready.clear()

    def batches(self) -> list[tuple[Batch, list[int]]]:
        found = []
        for response in self.sender.sent:
            event = wire.decode(response.tensors["event"][0], Batch)
            found.append((event, response.tensors["token_ids"].tolist()))
        return found


@pytest.fixture
def case(triton_request: Any) -> Case:
    return Case(triton_request())


def test_it_says_that_it_is_open(case: Case) -> None:
    assert case.batches() == [(Batch([], []), [])]


def test_what_a_step_brings_goes_out_in_one_response(case: Case) -> None:
    for ticket, tokens in ((3, [10]), (5, [20, 21]), (3, [11])):
        case.streams.outlet(Delivery("s", ticket)).put(tokens)
    assert len(case.ready) == 1, "it waits for the sender once"
    case.flush()
    case.streams.outlet(Delivery("s", 5)).put([22])
    case.flush()
    assert case.batches()[1:] == [(Batch([3, 5, 3], [1, 2, 1]), [10, 20, 21, 11]), (Batch([5], [1]), [22])]


def test_the_next_response_keeps_its_distance_unless_somebody_waits(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(delivery_streams.time, "monotonic", lambda: now)
    outlet = case.streams.outlet(Delivery("s", 1))
    outlet.put([1])
    case.flush()
    now = 100.1
    outlet.put([2])
    outlet.hurry()
    outlet.put([3])
    outlet.hurry()
    assert case.delays_s == [0.0, pytest.approx(0.4), 0.0], "it asks once to be preferred"
    case.flush()  # as often as it was announced
    assert case.batches()[2:] == [(Batch([1, 1], [1, 1]), [2, 3])]


def test_nothing_is_hurried_where_nothing_waits(case: Case) -> None:
    outlet = case.streams.outlet(Delivery("s", 1))
    outlet.hurry()
    assert case.ready == []
    outlet.put([1])
    outlet.hurry()
    assert len(case.ready) == 2


def test_nobody_delivers_to_what_is_not_open(case: Case) -> None:
    with pytest.raises(EngineUnavailable):
        case.streams.outlet(Delivery("another", 1))


def test_a_client_that_has_gone_closes_the_outlets(case: Case) -> None:
    outlet = case.streams.outlet(Delivery("s", 1))
    case.streams.sweep()
    assert not outlet.closed
    case.sender.cancelled = True
    case.streams.sweep()
    assert outlet.closed
    assert case.sender.finals == 1
    outlet.put([1])  # the engine goes on until it hears of it
    case.flush()
    assert len(case.sender.sent) == 1
    with pytest.raises(EngineUnavailable):
        case.streams.outlet(Delivery("s", 2))


def test_a_stream_that_cannot_be_written_to_is_closed(case: Case) -> None:
    outlet = case.streams.outlet(Delivery("s", 1))
    outlet.put([1])
    case.sender.broken = True
    with pytest.raises(RuntimeError):
        case.flush()
    outlet.stream.abandon()  # as the sender does
    assert outlet.closed


def test_one_stream_for_an_id(case: Case, triton_request: Any) -> None:
    with pytest.raises(InvalidRequest):
        case.streams.open("s", Responder(triton_request()))


def test_streams_are_bounded(case: Case, triton_request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_streams, "MAX_STREAMS", 1)
    with pytest.raises(Overloaded):
        case.streams.open("t", Responder(triton_request()))


def test_one_that_could_not_be_opened_leaves_nothing(triton_request: Any) -> None:
    streams = DeliveryStreams(INTERVAL_S, lambda stream, delay_s: None)
    request = triton_request()
    request.sender.broken = True
    with pytest.raises(RuntimeError):
        streams.open("s", Responder(request))
    streams.open("s", Responder(triton_request()))


def test_closing_ends_them(case: Case) -> None:
    case.streams.close()
    assert case.sender.finals == 1
