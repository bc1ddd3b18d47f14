"""A request's spans: their tree, times and attributes."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.telemetry.spans import SpanTree
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Timings
from tests.unit.telemetry.records import BEGAN, answered, refused


def spans(record: RequestRecord) -> dict[str, ReadableSpan]:
    made = SpanTree(record, Resource({})).spans()
    assert len({span.context.span_id for span in made}) == len(made)
    assert {span.context.trace_id for span in made} == {record.trace.trace_id}
    assert all(span.context.trace_flags.sampled for span in made)
    return {span.name: span for span in made}


def times(span: ReadableSpan) -> tuple[float, float]:
    """Seconds after the request came."""
    assert span.start_time is not None
    assert span.end_time is not None
    return round(span.start_time / 1e9 - BEGAN, 3), round(span.end_time / 1e9 - BEGAN, 3)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_the_tree_and_its_times() -> None:
    made = spans(answered())
    parents = {name: span.parent and span.parent.span_id for name, span in made.items()}
    root, generation = made["chat_completion"], made["chat gpt-oss-20b"]
    assert parents == {
        "chat_completion": None,
        "admission": root.context.span_id,
        "chat gpt-oss-20b": root.context.span_id,
        "prompt_building": generation.context.span_id,
        "queue": generation.context.span_id,
        "prefill": generation.context.span_id,
        "decode": generation.context.span_id,
    }
    assert {name: times(span) for name, span in made.items()} == {
        "chat_completion": (0, 2),
        "admission": (0.1, 0.2),
        "chat gpt-oss-20b": (0.2, 1.9),
        "prompt_building": (0.25, 0.3),
        "queue": (0.35, 0.55),
        "prefill": (0.55, 0.95),
        "decode": (0.95, 1.85),
    }
    assert root.kind is SpanKind.SERVER
    assert generation.kind is SpanKind.CLIENT
    assert all(span.status.status_code is StatusCode.UNSET for span in made.values())


def test_the_callers_span_is_the_parent() -> None:
    trace = TraceContext.of_header("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    root = spans(answered(trace=trace))["chat_completion"]
    assert root.context.trace_id == int("ab" * 16, 16)
    assert root.context.span_id == trace.span_id  # what Triton was given as its parent
    assert root.parent is not None
    assert (root.parent.span_id, root.parent.is_remote) == (int("cd" * 8, 16), True)


def test_attributes() -> None:
    made = spans(answered())
    assert attributes(made["chat gpt-oss-20b"]) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "gpt_oss_triton",
        "gen_ai.request.model": "gpt-oss-20b", "gen_ai.response.model": "gpt-oss-20b",
        "gen_ai.response.id": "chatcmpl-1", "gen_ai.conversation.id": "session-1",
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 32, "gpt_oss.cache_hit": True,
        "gen_ai.usage.output_tokens": 11, "gen_ai.usage.reasoning.output_tokens": 4,
        "gpt_oss.preemptions": 0, "gpt_oss.kv_blocks": 4, "gpt_oss.target": "local",
        "gpt_oss.routing.reason": "affinity",
    }  # fmt: skip
    assert attributes(made["chat_completion"]) == {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "http.response.status_code": 200,
        "gpt_oss.request_id": "request-1", "gen_ai.request.model": "gpt-oss-20b",
    }  # fmt: skip
    assert attributes(made["admission"]) == {
        "gpt_oss.admission": "admitted", "gpt_oss.priority": "normal", "gpt_oss.admission.blocks": 7,
    }  # fmt: skip
    assert attributes(made["prompt_building"]) == {
        "gpt_oss.prompt_cache": "miss", "gpt_oss.prompt_cache.reason": "new", "gpt_oss.prompt_version": "v1",
    }  # fmt: skip


def test_a_refused_request() -> None:
    made = spans(refused(queued=BEGAN + 0.002))
    assert list(made) == ["chat_completion", "admission"]
    assert times(made["admission"]) == (0.002, 0.01)
    assert attributes(made["admission"])["gpt_oss.admission"] == "queue_full"
    assert times(spans(refused())["admission"]) == (0.01, 0.01)  # it never stood in the queue
    unresolved = refused(admission=None, status=404, error="model_not_found")
    assert list(spans(unresolved)) == ["chat_completion"]


def test_who_is_let_in_at_once() -> None:
    assert times(spans(answered(queued=None))["admission"]) == (0.2, 0.2)


def test_an_error_is_marked_with_its_code_alone() -> None:
    made = spans(answered(error="internal_error", finish_reason=None, status=500))
    for name in ("chat_completion", "chat gpt-oss-20b"):
        assert made[name].status.status_code is StatusCode.ERROR
        assert made[name].status.description == "internal_error"
        assert attributes(made[name])["error.type"] == "internal_error"
    assert times(made["chat gpt-oss-20b"]) == (0.2, 2.0)


def test_a_callers_mistake_is_told_by_its_code_and_no_error_of_ours() -> None:
    root = spans(answered(error="invalid_value", status=400, attempts=[], admission=None))["chat_completion"]
    assert root.status.status_code is StatusCode.UNSET
    assert attributes(root)["error.type"] == "invalid_value"


def test_a_second_attempt_is_visible() -> None:
    attempts = [
        Attempt("a", "affinity", began=BEGAN + 0.2, failed="engine_unavailable"),
        Attempt("b", "retry", began=BEGAN + 0.3),
    ]
    generation = spans(answered(attempts=attempts))["chat gpt-oss-20b"]
    assert [(event.name, round(event.timestamp / 1e9 - BEGAN, 3), dict(event.attributes or {})) for event in generation.events] == [
        ("attempt", 0.2, {"gpt_oss.attempt": 1, "gpt_oss.target": "a", "gpt_oss.routing.reason": "affinity", "error.type": "engine_unavailable"}),
        ("attempt", 0.3, {"gpt_oss.attempt": 2, "gpt_oss.target": "b", "gpt_oss.routing.reason": "retry"}),
    ]  # fmt: skip
    assert attributes(generation)["gpt_oss.target"] == "b"


def test_phases_that_the_engine_did_not_reach() -> None:
    made = spans(answered(timings=Timings(BEGAN + 0.35, BEGAN + 0.5), error="cancelled", finish_reason=None))
    assert times(made["queue"]) == (0.35, 0.5)
    assert times(made["prefill"]) == (0.5, 2.0)
    assert "decode" not in made
    assert attributes(made["chat_completion"])["gpt_oss.cancel_phase"] == "decode"


def test_phases_as_the_shim_saw_them_where_the_engine_had_no_last_word() -> None:
    made = spans(answered(timings=None, error="engine_unavailable", finish_reason=None))
    assert times(made["prefill"]) == (0.4, 1.0)
    assert attributes(made["prefill"]) == {"gpt_oss.queue_included": True}
    assert times(made["decode"]) == (1.0, 2.0)
    assert "queue" not in made
    waiting = spans(answered(timings=None, first_token=None, error="cancelled", finish_reason=None))
    assert times(waiting["prefill"]) == (0.4, 2.0)
    assert "decode" not in waiting


def test_another_machines_clock_makes_no_negative_span() -> None:
    made = spans(answered(timings=Timings(BEGAN + 9, BEGAN + 8, BEGAN + 7, BEGAN + 6)))
    assert all(span.start_time <= span.end_time for span in made.values())  # type: ignore[operator]
