from __future__ import annotations

from frontend.joint_record import join, part_of
from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext


def record() -> RequestRecord:
    return RequestRecord("id", TraceContext.of_header(""), "POST", "/v1/completions", model="m")


def test_parts_do_not_share_their_attempts() -> None:
    whole = record()
    first, second = part_of(whole), part_of(whole)
    first.attempts.append(Attempt("a", "load"))
    assert second.attempts == whole.attempts == []
    assert (first.request_id, first.model) == ("id", "m")


def test_counts_add_up_and_times_span_all() -> None:
    whole = record()
    first, second, third = (part_of(whole) for _ in range(3))
    first.completion_tokens, second.completion_tokens = 3, 4
    first.first_token, second.first_token = 20.0, 10.0
    first.last_token, second.last_token = 30.0, 40.0
    first.admission, second.admission, third.admission = "admitted", "queue_full", "admitted"
    first.attempts, second.attempts = [Attempt("a", "load")], [Attempt("b", "load")]
    join(whole, [first, second, third])
    assert whole.completion_tokens == 7
    assert (whole.first_token, whole.last_token, whole.accepted) == (10.0, 40.0, None)
    assert whole.admission == "queue_full"
    assert [attempt.target for attempt in whole.attempts] == ["a", "b"]
