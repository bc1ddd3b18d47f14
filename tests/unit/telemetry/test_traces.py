"""Traces on their way to a collector: whole or not at all, bounded, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gpt_oss_triton.telemetry import traces
from gpt_oss_triton.telemetry.traces import Traces
from tests.e2e.otlp_receiver import OtlpReceiver, attributes
from tests.unit.telemetry.records import answered

SPANS_OF_ONE = 7


class Blocked(SpanExporter):
    """A collector that takes nothing until `free` is set."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.sent: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.free.wait(60)
        self.sent += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.free.set()


def collector(receiver: OtlpReceiver) -> Traces:
    return Traces.to_collector(f"{receiver.url}/v1/traces", {})


def test_a_trace_arrives_whole() -> None:
    with OtlpReceiver() as receiver:
        sent, record = collector(receiver), answered()
        assert sent.take(record)
        sent.close()
        spans = {span.name: span for span in receiver.trace(record.trace.trace_hex)}
        assert len(spans) == SPANS_OF_ONE
        assert attributes(spans["chat gpt-oss-20b"].attributes)["gen_ai.usage.output_tokens"] == 11
        assert spans["decode"].parent_span_id == spans["chat gpt-oss-20b"].span_id


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "gpt-oss-triton"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,zone=a"}, "ours"),
    ],
)
def test_the_service_name(variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with OtlpReceiver() as receiver:
        sent = collector(receiver)
        sent.take(answered())
        sent.close()
        assert receiver.services == {name}


def test_the_collectors_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=value")
    with OtlpReceiver() as receiver:
        sent = collector(receiver)
        sent.take(answered())
        sent.close()
        assert receiver.headers[0]["x-key"] == "value"


def test_a_collector_that_hangs_costs_traces_and_no_memory() -> None:
    blocked = Blocked()
    sent = Traces(blocked, Resource({}), max_spans=1000)
    taken = [sent.take(answered()) for _ in range(1000)]
    assert taken.count(True) == 1000 // SPANS_OF_ONE
    assert taken[:100] == [True] * 100  # the first ones: what was taken stays taken
    blocked.free.set()
    sent.flush()
    assert len(blocked.sent) == taken.count(True) * SPANS_OF_ONE
    assert sent.take(answered())  # there is room again
    sent.close()


def test_a_refusing_collector_makes_room_as_well() -> None:
    with OtlpReceiver() as receiver:
        receiver.status = 400
        sent = Traces.to_collector(f"{receiver.url}/v1/traces", {})
        sent.take(answered())
        sent.flush()
        assert sent._waiting == 0
        sent.close()


def test_closing_does_not_wait_for_a_collector_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "_CLOSE_S", 0.05)
    blocked = Blocked()
    sent = Traces(blocked, Resource({}))
    sent.take(answered())
    sent.close()
    assert "not sent" in caplog.text
    blocked.free.set()


def test_times_and_ids_survive_the_wire() -> None:
    with OtlpReceiver() as receiver:
        sent, record = collector(receiver), answered()
        sent.take(record)
        sent.close()
        (root,) = [span for span in receiver.spans if span.name == "chat_completion"]
        assert int.from_bytes(root.span_id, "big") == record.trace.span_id
        assert root.end_time_unix_nano - root.start_time_unix_nano == pytest.approx(2e9)
