"""The predecessor's kinds of event, made from a record."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gpt_oss_triton.telemetry import events
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from tests.unit.telemetry.records import answered, refused

Events = dict[str, dict[str, Any]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    """The events of a finished request at a level, by kind."""

    def tell(record: RequestRecord, level: int = logging.INFO, *, slow: bool = False) -> Events:
        caplog.clear()
        with caplog.at_level(level, "gpt_oss_triton.telemetry.events"):
            events.request_end(record, Figures.of(record), slow=slow)
        kinds = [r.msg["event"] for r in caplog.records]  # type: ignore[index]
        assert len(kinds) == len(set(kinds))
        return {r.msg["event"]: {**r.msg, "level": r.levelname} for r in caplog.records}  # type: ignore[index,dict-item]

    return tell


def test_a_good_request_is_one_line(told: Any) -> None:
    record = answered()
    (end,) = told(record).values()
    assert end == {
        "event": "request_end", "level": "INFO", "trace_id": record.trace.trace_hex, "request_id": "request-1",
        "method": "POST", "path": "/v1/chat/completions", "status": 200, "outcome": "ok", "duration_s": 2.0,
        "ttft_s": 1.0, "key": "default", "model": "gpt-oss-20b", "completion": "chatcmpl-1", "stream": True,
        "priority": "normal", "target": "local", "finish": "stop", "prompt_tokens": 50, "cached_tokens": 32,
        "completion_tokens": 11, "session": "session-1", "bytes": 1000,
    }  # fmt: skip


def test_debug_tells_every_kind(told: Any) -> None:
    record = answered()
    found = told(record, logging.DEBUG)
    assert set(found) == {"admission", "routing", "cache", "performance", "request_end"}
    assert found["admission"]["decision"] == "admitted"
    assert found["routing"]["reason"] == "affinity"
    assert found["cache"]["prompt_cache_reason"] == "new"
    assert found["performance"]["tpot_s"] == pytest.approx(0.09)
    for fields in found.values():
        assert (fields["trace_id"], fields["request_id"]) == (record.trace.trace_hex, "request-1")


def test_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "gpt_oss_triton.telemetry.events"):
        events.request_start(answered())
    (record,) = caplog.records
    assert record.msg["event"] == "request_start"  # type: ignore[index]
    assert record.msg["request_id"] == "request-1"  # type: ignore[index]


def test_a_slow_request_tells_where_its_time_went(told: Any) -> None:
    assert set(told(answered(), slow=True)) == {"performance", "request_end"}


def test_an_answer_from_the_cache_is_one_line(told: Any) -> None:
    assert set(told(answered(admission="cached", attempts=[], accepted=None))) == {"request_end"}


def test_a_refusal_tells_why(told: Any) -> None:
    found = told(refused())
    assert found["admission"]["decision"] == "queue_full"
    assert found["request_end"]["outcome"] == "rejected"
    assert "error" not in found  # the server works as it should


def test_a_cancel_tells_how_far_it_came(told: Any) -> None:
    found = told(answered(error="cancelled", finish_reason=None))
    assert found["request_cancel"]["phase"] == "decode"
    assert set(found) == {"request_cancel", "request_end"}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"status": 500, "error": "internal_error"}, "ERROR"),
        ({"status": 503, "error": "engine_unavailable"}, "WARNING"),
        ({"status": 200, "error": "engine_unavailable"}, "WARNING"),  # after the headers
    ],
)
def test_our_failures_are_errors(told: Any, changes: dict[str, Any], level: str) -> None:
    attempts = [Attempt("a", "only", failed="engine_unavailable"), Attempt("b", "retry")]
    found = told(answered(**changes, attempts=attempts))
    assert found["error"]["level"] == level
    assert found["error"]["code"] == changes["error"]
    assert found["error"]["failed"] == ["engine_unavailable"]
    assert found["routing"]["attempts"] == [["a", "only", "engine_unavailable"], ["b", "retry", None]]


def test_a_callers_mistake_is_no_error_of_ours(told: Any) -> None:
    record = answered(status=400, error="invalid_value", attempts=[], admission=None, accepted=None)
    assert set(told(record)) == {"request_end"}


def test_probes_are_quiet(told: Any) -> None:
    probe = RequestRecord("r", answered().trace, "GET", "/readyz", status=200)
    assert told(probe) == {}
    assert set(told(probe, logging.DEBUG)) == {"request_end"}


def test_memory_pressure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        events.memory_pressure("gpt-oss-20b", 1, 2, kv_fraction=0.91234)
        events.memory_pressure("gpt-oss-20b", 2, 0, kv_fraction=0.1)
    up, down = caplog.records
    assert (up.levelname, down.levelname) == ("WARNING", "INFO")
    assert up.msg == {
        "event": "memory_pressure", "ensemble": "gpt-oss-20b", "degradation": 2, "before": 1, "kv_fraction": 0.912,
    }  # fmt: skip
