"""What the requests leave in `/metrics`."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.families import ENGINE_LABELS
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.labels import EngineLabels, Vocabulary
from gpt_oss_triton.telemetry.metrics import MAX_LABEL_SETS, Metrics
from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import PromptInfo
from tests.unit.frontend.fake_triton import LOAD
from tests.unit.telemetry.records import MODEL, SNAPSHOT, answered, refused

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LABELS = EngineLabels.of(MODEL, LOAD)


def made(**settings: Any) -> Metrics:
    return Metrics(FrontendSettings(models={MODEL: MODEL}, **settings))


def count(metrics: Metrics, *records: RequestRecord, trace_id: str | None = None) -> None:
    for record in records:
        metrics.count(record, Figures.of(record), LABELS, trace_id)
        metrics.count_http(record)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render("", SNAPSHOT)[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum over the series with these labels."""
    wanted = set(labels.items())
    found = [v for (n, given), v in samples(metrics).items() if n == name and wanted <= given]
    assert found, name
    return sum(found)


def test_the_engines_labels() -> None:
    metrics = made()
    count(metrics, answered())
    ((_, labels),) = [key for key in samples(metrics) if key[0] == "llm_ttft_seconds_sum"]
    assert dict(labels) == {
        "model_id": "gpt-oss-20b", "model_size": "20b", "dtype": "float32", "route": "/v1/chat/completions",
        "tp": "1", "pp": "1", "gpu_mode": "single", "prompt_version": "v1", "engine": "native",
        "profile": "balanced",
    }  # fmt: skip
    assert dict(labels).keys() == set(ENGINE_LABELS)


def test_times_are_seconds() -> None:
    metrics = made()
    count(metrics, answered())
    assert value(metrics, "llm_ttft_seconds_sum") == pytest.approx(1.0)
    assert value(metrics, "llm_e2e_seconds_sum") == pytest.approx(2.0)
    assert value(metrics, "llm_tpot_seconds_sum") == pytest.approx(0.09)
    assert value(metrics, "llm_queue_seconds_sum", stage="shim") == pytest.approx(0.1)
    assert value(metrics, "llm_queue_seconds_sum", stage="engine") == pytest.approx(0.2)
    assert value(metrics, "llm_output_tokens_per_second_sum") == pytest.approx(5.5)
    bounds = re.findall(r'llm_e2e_seconds_bucket\{.*le="([\d.]+)"', metrics.render("", SNAPSHOT)[0].decode())
    assert max(map(float, bounds)) >= 600


def test_tokens_and_caches() -> None:
    metrics = made()
    hit = PromptInfo("a", "b", "v1", "hit")
    odd = PromptInfo("a", "b", "v1", "miss", "what a client might write")
    count(metrics, answered(preemptions=2), answered(prompt=hit, session_by=None), answered(prompt=odd))
    assert value(metrics, "llm_prefill_tokens_total") == 3 * 18
    assert value(metrics, "llm_cached_tokens_total") == 3 * 32
    assert value(metrics, "llm_decode_tokens_total") == 33
    assert value(metrics, "llm_preemptions_total") == 2
    assert value(metrics, "llm_prompt_cache_total", result="hit") == 1
    assert value(metrics, "llm_prompt_cache_total", result="miss", reason="new") == 1
    assert value(metrics, "llm_prompt_cache_total", result="miss", reason="other") == 1
    assert value(metrics, "llm_prefix_cache_hit_total", reason="header") == 2
    assert value(metrics, "llm_prefix_cache_hit_total", reason="shared") == 1
    count(metrics, answered(counts=TokenCounts(50, 0, 11), response_cache="hit"))
    assert value(metrics, "llm_prefix_cache_hit_total") == 3
    assert value(metrics, "llm_response_cache_total", result="hit") == 1


def test_outcomes() -> None:
    metrics = made()
    late = answered(error="deadline_exceeded", finish_reason=None)
    gone = answered(error="cancelled", finish_reason=None, last_token=None)
    count(metrics, answered(), refused(), late, gone)
    assert value(metrics, "llm_requests_total", outcome="ok", code="") == 1
    assert value(metrics, "llm_requests_total", outcome="rejected", code="overloaded") == 1
    assert value(metrics, "llm_requests_total", outcome="error", code="deadline_exceeded") == 1
    assert value(metrics, "llm_requests_total", outcome="cancelled") == 1
    assert value(metrics, "llm_cancelled_total", phase="decode") == 1
    assert value(metrics, "llm_admission_total", decision="admitted", priority="normal") == 3
    assert value(metrics, "llm_admission_total", decision="queue_full", priority="low") == 1
    assert value(metrics, "llm_sse_bytes_total") == 3000
    assert value(metrics, "llm_ttft_seconds_count") == 3  # a first token is one whatever comes after it
    assert value(metrics, "llm_e2e_seconds_count") == 1
    assert value(metrics, "llm_http_requests_total", status="429") == 1


def test_each_attempt_is_counted() -> None:
    metrics = made()
    attempts = [Attempt("a", "affinity", failed="engine_unavailable"), Attempt("b", "retry")]
    count(metrics, answered(attempts=attempts))
    assert value(metrics, "llm_routing_total", target="a", reason="affinity") == 1
    assert value(metrics, "llm_routing_total", target="b", reason="retry") == 1


def test_the_names_of_the_server_before() -> None:
    assert "llm_ttft_ms" not in made().render("", SNAPSHOT)[0].decode()
    metrics = made(metrics_legacy_names=True)
    count(metrics, answered(), answered(error="cancelled", finish_reason=None))
    assert value(metrics, "llm_ttft_ms_sum") == pytest.approx(2000)
    assert value(metrics, "llm_e2e_ms_sum") == pytest.approx(2000)
    assert value(metrics, "llm_tokens_per_sec_sum") == pytest.approx(5.5)
    assert value(metrics, "llm_tokens_per_sec_count") == 1


# ----------------------------------------------------------------------------------------- exposition


def test_exemplars_come_with_openmetrics_alone() -> None:
    metrics, trace_id = made(), TraceContext.new().trace_hex
    count(metrics, answered(), trace_id=trace_id)
    text, content_type = metrics.render(OPENMETRICS, SNAPSHOT)
    assert content_type.startswith("application/openmetrics-text")
    found = {
        sample.name: sample.exemplar.labels
        for family in parse_openmetrics(text.decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert found["llm_ttft_seconds_bucket"] == found["llm_queue_seconds_bucket"] == {"trace_id": trace_id}
    text, content_type = metrics.render("text/plain", SNAPSHOT)
    assert content_type.startswith("text/plain")
    assert trace_id not in text.decode()


def test_no_trace_no_exemplar() -> None:
    metrics = made()
    count(metrics, answered())
    assert "trace_id" not in metrics.render(OPENMETRICS, SNAPSHOT)[0].decode()


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text;version=x", "text/plain;version=;", "é" * 100]
)
def test_any_accept_header_is_answered(accept: str) -> None:
    text, content_type = made().render(accept, SNAPSHOT)
    assert "llm_ready 1.0" in text.decode()
    assert "text" in content_type


# ----------------------------------------------------------------------------------------------- bounds


def test_random_names_make_no_series() -> None:
    metrics, dice = made(), random.Random(0)

    def name() -> str:
        return f"{dice.getrandbits(64):x}"

    def requests(number: int) -> None:
        for _ in range(number):
            count(
                metrics,
                answered(model=name(), key=name(), session=name(), request_id=name(), completion_id=name()),
                refused(model=name(), key=name()),
            )

    requests(5)
    before = samples(metrics).keys()
    requests(5000)
    assert samples(metrics).keys() == before
    assert value(metrics, "llm_requests_total", model_id="unknown") == 2 * 5005


def test_other_parts_of_the_server_make_few_series() -> None:
    """Their values are a fixed few; a mistake there must not fill the memory here."""
    metrics = made()
    for n in range(1000):
        prompt = PromptInfo("a", "b", f"v{n}")
        record = answered(
            prompt=prompt, admission=f"d{n}", error=f"e{n}", attempts=[Attempt(f"t{n}", f"r{n}")]
        )
        metrics.count(record, Figures.of(record), LABELS, None)
        metrics.count_http(answered(route=f"/{n}"))
    seen = samples(metrics)

    def series(family: str) -> list[float]:
        return [value for (name, _), value in seen.items() if name == family]

    assert len(series("llm_ttft_seconds_count")) == MAX_LABEL_SETS + 1
    assert sum(series("llm_ttft_seconds_count")) == 1000
    for family in (
        "llm_admission_total",
        "llm_requests_total",
        "llm_routing_total",
        "llm_http_requests_total",
    ):
        assert len(series(family)) <= 33 * 2, family
        assert sum(series(family)) == 1000


def test_a_vocabulary_keeps_what_it_met_first() -> None:
    words = Vocabulary(limit=2)
    assert [words(word) for word in ("a", "b", "c", "a", "b", "d")] == ["a", "b", "other", "a", "b", "other"]
