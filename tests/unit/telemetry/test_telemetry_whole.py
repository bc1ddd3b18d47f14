"""Telemetry as the shim uses it: begin, finish, and what can be read afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.labels import EngineLabels
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry
from gpt_oss_triton.telemetry.trace_context import TraceContext
from tests.e2e.otlp_receiver import OtlpReceiver
from tests.unit.telemetry.records import SNAPSHOT, answered, refused

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
KEPT = TraceContext(1, 1)  # its share is the lowest
LEFT = TraceContext(2**64 - 1, 1)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        yield server


def run(telemetry: Telemetry, *records: RequestRecord) -> None:
    for record in records:
        telemetry.begin(record)
        telemetry.finish(record)


def text(telemetry: Telemetry) -> str:
    rendered = asyncio.run(telemetry.exposition(OPENMETRICS, SNAPSHOT))
    assert rendered is not None
    return rendered[0].decode()


def test_a_request_is_counted_everywhere_once() -> None:
    telemetry = Telemetry(FrontendSettings(), lambda record: EngineLabels(dtype="bfloat16"))
    run(telemetry, answered(), refused())
    assert telemetry.counts()["requests"]["ok"] == telemetry.counts()["requests"]["rejected"] == 1
    assert telemetry.recent()["requests"] == 1
    assert 'dtype="bfloat16"' in text(telemetry)
    assert "llm_traces" not in [line.split("{")[0] for line in text(telemetry).splitlines()]


def test_requests_for_no_answer_are_http_requests_and_nothing_else() -> None:
    telemetry = Telemetry(FrontendSettings())
    for path, route in (("/v1/models", "/v1/models"), ("/nowhere", None)):
        run(telemetry, RequestRecord("r", KEPT, "GET", path, route=route, status=200))
    run(telemetry, RequestRecord("r", KEPT, "OPTIONS", "/v1/chat/completions", status=200))  # a preflight
    assert telemetry.counts()["requests"]["accepted"] == 0
    assert telemetry.recent()["requests"] == 0
    assert 'llm_http_requests_total{route="/v1/models",status="200"} 1.0' in text(telemetry)
    assert 'llm_http_requests_total{route="unknown",status="200"} 2.0' in text(telemetry)


def test_what_is_refused_before_it_is_routed_counts() -> None:
    telemetry = Telemetry(FrontendSettings())
    record = RequestRecord("r", KEPT, "POST", "/v1/chat/completions", status=401, error="invalid_api_key")
    run(telemetry, record)
    assert telemetry.counts()["requests"]["error"] == 1
    assert record.finished is not None


def test_errors_slow_ones_and_a_share_of_the_rest_are_exported(receiver: OtlpReceiver) -> None:
    telemetry = Telemetry(FrontendSettings())
    failed = answered(trace=TraceContext.new(), status=500, error="internal_error")
    slow = answered(trace=TraceContext.new(), finished=answered().started + 11)
    run(telemetry, failed, slow, answered(trace=KEPT), answered(trace=LEFT), answered(trace=LEFT))
    telemetry.close()
    wanted = {failed.trace.trace_hex, slow.trace.trace_hex, KEPT.trace_hex}
    assert receiver.trace_ids() == wanted
    for kind, result, count in (
        ("error", "kept", 1),
        ("slow", "kept", 1),
        ("rest", "kept", 1),
        ("rest", "left_out", 2),
    ):
        assert f'llm_traces_total{{kind="{kind}",result="{result}"}} {count}.0' in text(telemetry)


def test_an_exemplar_names_a_trace_that_was_exported(receiver: OtlpReceiver) -> None:
    telemetry = Telemetry(FrontendSettings())
    run(telemetry, answered(trace=LEFT))
    assert "trace_id" not in text(telemetry)
    run(telemetry, answered(trace=KEPT))
    assert f'trace_id="{KEPT.trace_hex}"' in text(telemetry)
    telemetry.close()


def test_keeps_says_what_is_certain_beforehand(receiver: OtlpReceiver) -> None:
    telemetry = Telemetry(FrontendSettings())
    assert telemetry.keeps(KEPT)
    assert not telemetry.keeps(LEFT)
    telemetry.close()


def test_without_a_collector_nothing_is_traced() -> None:
    telemetry = Telemetry(FrontendSettings(trace_rest=1.0))
    run(telemetry, answered(trace=KEPT))
    assert not telemetry.keeps(KEPT)
    assert "trace_id" not in text(telemetry)


def test_without_a_collector_the_library_is_not_loaded() -> None:
    code = (
        "import sys\n"
        "from gpt_oss_triton.config import FrontendSettings\n"
        "from gpt_oss_triton.telemetry.telemetry import Telemetry\n"
        "Telemetry(FrontendSettings())\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.exporter')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_can_be_switched_off() -> None:
    telemetry = Telemetry(FrontendSettings(metrics=False))
    run(telemetry, answered())
    assert asyncio.run(telemetry.exposition("", SNAPSHOT)) is None
    assert telemetry.counts()["requests"]["ok"] == 1


@pytest.mark.anyio
async def test_it_measures_while_it_runs(receiver: OtlpReceiver) -> None:
    telemetry = Telemetry(FrontendSettings())
    async with telemetry.running():
        run(telemetry, answered(trace=KEPT))
        await asyncio.sleep(0.01)  # it has begun to measure
        time.sleep(0.3)  # noqa: ASYNC251 - nothing else may run meanwhile
        await asyncio.sleep(0.01)
        assert telemetry.loop_lag.worst_s > 0
        assert isinstance(telemetry.gpus.figures(), list)
    assert receiver.trace_ids() == {KEPT.trace_hex}  # what waited was sent at the end
