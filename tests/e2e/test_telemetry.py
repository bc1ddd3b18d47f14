"""What operators see of a running server: a real Prometheus, a collector, a tritonserver that traces."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry
from gpt_oss_triton.telemetry.trace_context import TraceContext
from tests.contract.test_dashboards import EXPRESSIONS, RULES
from tests.e2e.otlp_receiver import OtlpReceiver, attributes
from tests.e2e.prometheus_server import Prometheus
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY
from tests.unit.telemetry.records import BEGAN, SNAPSHOT, answered

Until = Callable[[Callable[[], bool], str], None]
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ASK: dict[str, Any] = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "Tell me of the sea."}],
    "max_tokens": 8,
    "temperature": 0,
}


# ------------------------------------------------------------------------------------------- sampling


def ten_thousand() -> Iterator[tuple[str, RequestRecord]]:
    dice = random.Random(3)
    for number in range(10_000):
        trace = TraceContext(dice.getrandbits(128) or 1, dice.getrandbits(64) or 1)
        if number % 40 == 0:
            yield "error", answered(trace=trace, status=500, error="internal_error", finish_reason=None)
        elif number % 40 == 1:
            yield "slow", answered(trace=trace, finished=BEGAN + 10 + dice.uniform(0.001, 100))
        else:
            yield "rest", answered(trace=trace, finished=BEGAN + dice.uniform(1.9, 10))


def test_errors_and_slow_ones_are_all_kept_and_three_percent_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        telemetry = Telemetry(FrontendSettings())
        traces: dict[str, list[str]] = {"error": [], "slow": [], "rest": []}
        for kind, record in ten_thousand():
            telemetry.begin(record)
            telemetry.finish(record)
            traces[kind].append(record.trace.trace_hex)
        text, _ = asyncio.run(telemetry.exposition(OPENMETRICS, SNAPSHOT)) or (b"", "")
        telemetry.close()
        exported = receiver.trace_ids()

    shares = {kind: len(exported.intersection(ids)) / len(ids) for kind, ids in traces.items()}
    assert shares["error"] == shares["slow"] == 1.0
    assert shares["rest"] == pytest.approx(0.03, abs=0.005)
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert len(exemplars) >= 5
    assert exemplars <= exported


# --------------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as server:
        yield server


@pytest.fixture(scope="module")
def shim(
    receiver: OtlpReceiver, engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ShimProcess]:
    """One that keeps every trace, before a tritonserver that traces as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        settings = TritonServerSettings(
            model_repository=REPOSITORY,
            models=[ENSEMBLE],
            log_file=tmp_path_factory.mktemp("traced-triton") / "tritonserver.log",
            environment=engine_environment,
        )
        with TritonServer(settings) as server:
            server.start()
            server.wait_ready(READY_S)
            with ShimProcess(server, trace_rest=1.0) as process:
                yield process


def ask(shim: ShimProcess, **changes: Any) -> str:
    """The trace id of a request that was answered."""
    trace = TraceContext.new()
    headers = {"traceparent": trace.header(sampled=True)}
    answer = httpx.post(
        f"{shim.url}/v1/chat/completions", json={**ASK, **changes}, headers=headers, timeout=60
    )
    assert answer.status_code == changes.get("status", 200), answer.text
    return trace.trace_hex


@pytest.mark.slow
def test_the_spans_of_a_request(shim: ShimProcess, receiver: OtlpReceiver, until: Until) -> None:
    trace_id = ask(shim)
    wanted = {
        "chat_completion",
        "admission",
        f"chat {ENSEMBLE}",
        "prompt_building",
        "queue",
        "prefill",
        "decode",
    }
    of_triton = {"InferRequest", ENSEMBLE, "prompt_normalizer", "gpt_oss_20b_engine"}
    until(lambda: wanted | of_triton <= {s.name for s in receiver.trace(trace_id)}, "all spans")

    spans = {span.name: span for span in receiver.trace(trace_id)}
    root, generation = spans["chat_completion"], spans[f"chat {ENSEMBLE}"]
    parents = {name: span.parent_span_id for name, span in spans.items()}
    assert parents["admission"] == parents[f"chat {ENSEMBLE}"] == root.span_id
    assert parents["InferRequest"] == root.span_id  # Triton's are under the shim's
    for name in ("prompt_building", "queue", "prefill", "decode"):
        assert parents[name] == generation.span_id
    times = [
        (spans[name].start_time_unix_nano, spans[name].end_time_unix_nano)
        for name in ("prompt_building", "queue", "prefill", "decode")
    ]
    assert sorted(times) == times
    assert all(begin <= end for begin, end in times)
    assert root.start_time_unix_nano <= times[0][0]
    assert times[-1][1] <= root.end_time_unix_nano
    figures = attributes(generation.attributes)
    assert figures["gen_ai.usage.output_tokens"] == 8
    assert figures["gen_ai.response.finish_reasons"] == ["length"]
    assert receiver.services >= {"gpt-oss-triton", "triton-inference-server"}


@pytest.mark.slow
def test_no_span_holds_text_or_a_key(shim: ShimProcess, receiver: OtlpReceiver, until: Until) -> None:
    words = "a-word-that-nobody-else-writes"
    trace_id = ask(shim, messages=[{"role": "user", "content": words}], user="the-user-of-the-key")
    until(lambda: "chat_completion" in {s.name for s in receiver.trace(trace_id)}, "the trace")
    everything = "".join(str(span) for span in receiver.trace(trace_id))
    assert words not in everything
    assert "the-user-of-the-key" not in everything


@pytest.mark.slow
def test_the_log_is_json_with_the_traces_id(shim: ShimProcess, until: Until) -> None:
    trace_id = ask(shim)

    def ends() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in shim.log().splitlines()]
        return [line for line in lines if line["event"] == "request_end" and line["trace_id"] == trace_id]

    until(lambda: len(ends()) == 1, "the request's line")
    (end,) = ends()
    assert (end["status"], end["outcome"], end["completion_tokens"]) == (200, "ok", 8)


@pytest.mark.slow
def test_a_failed_request_is_traced_and_a_good_one_is_not(
    shim: ShimProcess,
    receiver: OtlpReceiver,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    triton: TritonServer,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    with ShimProcess(triton, trace_rest=0.0) as sparing:
        good = ask(sparing)
        bad = TraceContext.new()
        headers = {"traceparent": bad.header(sampled=False)}
        too_long = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10**9}
        failed = httpx.post(f"{sparing.url}/v1/chat/completions", json=too_long, headers=headers)
        assert failed.status_code == 400
        noise = TraceContext.new()
        headers = {"traceparent": noise.header(sampled=True)}
        assert httpx.post(f"{sparing.url}/v1/chat/completions", json={}, headers=headers).status_code == 400
        until(lambda: bad.trace_hex in receiver.trace_ids(), "the failed request's trace")
    assert good not in receiver.trace_ids()  # nor after the shim has sent what waited
    assert noise.trace_hex not in receiver.trace_ids(), "anybody can send what is no request at all"


# -------------------------------------------------------------------------------------- a real Prometheus


@pytest.fixture(scope="module")
def prometheus(shim: ShimProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    target = shim.url.removeprefix("http://")
    with Prometheus(target, RULES, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.mark.slow
def test_exemplars_lead_to_traces(
    shim: ShimProcess, prometheus: Prometheus, receiver: OtlpReceiver, until: Until
) -> None:
    began = time.time()
    before = prometheus.value("llm_ttft_seconds_count")
    asked = {ask(shim) for _ in range(5)}
    until(
        lambda: prometheus.value("llm_ttft_seconds_count") >= before + 5, "Prometheus has seen the requests"
    )
    until(lambda: bool(prometheus.exemplars("llm_ttft_seconds_bucket", began)), "exemplars")
    found = {e["labels"]["trace_id"] for e in prometheus.exemplars("llm_ttft_seconds_bucket", began)}
    assert found & asked
    until(lambda: found <= receiver.trace_ids(), "every exemplar's trace")


@pytest.mark.slow
def test_prometheus_takes_every_expression_and_every_rule(
    shim: ShimProcess, prometheus: Prometheus, until: Until
) -> None:
    ask(shim)
    for _, expression in EXPRESSIONS:
        if not expression.startswith("label_values("):
            prometheus.query(expression.replace("$__rate_interval", "1m").replace("$model", ".*"))

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "the rules were evaluated")
    assert {rule["health"] for rule in rules()} == {"ok"}
    assert {rule["state"] for rule in rules() if rule["type"] == "alerting"} <= {"inactive", "pending"}


@pytest.mark.slow
def test_the_engines_state_is_scraped(shim: ShimProcess, prometheus: Prometheus, until: Until) -> None:
    until(lambda: prometheus.value("llm_engine_ready") == 1, "the engine is ready")
    load = httpx.get(f"{shim.url}/stats").json()["engines"][0]["load"]
    assert prometheus.value("llm_kv_blocks_capacity") == load["blocks_total"]
    assert prometheus.value("kv_bytes_capacity") == load["blocks_total"] * load["block_bytes"]
    assert prometheus.value('llm_requests_total{outcome="cancelled"}') == 0  # there from the first scrape
