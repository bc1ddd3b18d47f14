from __future__ import annotations

import pytest

from frontend.joint_record import join, part_of
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext


def record() -> RequestRecord:
    return RequestRecord("id", TraceContext.of_header(""), "POST", "/v1/completions", model="m")


def test_parts_share_neither_attempts_nor_counts() -> None:
    whole = record()
    first, second = part_of(whole), part_of(whole)
    first.attempts.append(Attempt("a", "load"))
    first.counts.came(1, None)
    assert second.attempts == whole.attempts == []
    assert second.counts == whole.counts == TokenCounts()
    assert (first.request_id, first.model) == ("id", "m")


def test_counts_add_up_and_times_span_all() -> None:
    whole = record()
    first, second, third = (part_of(whole) for _ in range(3))
    first.counts, second.counts = TokenCounts(completion=3), TokenCounts(completion=4)
    first.first_token, second.first_token = 20.0, 10.0
    first.last_token, second.last_token = 30.0, 40.0
    first.admission, second.admission, third.admission = "admitted", "queue_full", "admitted"
    first.attempts, second.attempts = [Attempt("a", "load")], [Attempt("b", "load")]
    counts = TokenCounts(5, 1, 7)
    join(whole, [first, second, third], counts)
    assert whole.counts is counts
    assert (whole.answers, whole.decoding_s) == (2, 40.0)
    assert (whole.first_token, whole.last_token, whole.accepted) == (10.0, 40.0, None)
    assert whole.admission == "queue_full"
    assert [attempt.target for attempt in whole.attempts] == ["a", "b"]


def test_the_request_waited_as_long_as_its_first_run() -> None:
    whole = record()
    first, second = part_of(whole), part_of(whole)
    first.admitted, second.queued, second.admitted = 10.0, 10.0, 70.0
    join(whole, [first, second], TokenCounts())
    assert (whole.queued, whole.admitted) == (None, 10.0)
    assert Figures.of(whole).shim_queue_s == 0.0


def test_a_request_has_ended_well_when_all_its_runs_have() -> None:
    whole = record()
    first, second = part_of(whole), part_of(whole)
    first.finish_reason = "tool_calls"
    join(whole, [first, second], TokenCounts())
    assert whole.finish_reason is None
    second.finish_reason = "stop"
    join(whole, [first, second], TokenCounts())
    assert whole.finish_reason == "tool_calls"


@pytest.mark.parametrize("apart_s", [0.0, 3.0], ids=["at once", "one after the other"])
def test_rates_are_those_of_an_answer(apart_s: float) -> None:
    whole = record()
    parts = [part_of(whole) for _ in range(8)]
    for number, part in enumerate(parts):
        part.counts.came(101, None)
        part.first_token = whole.started + 1.0 + number * apart_s
        part.last_token = part.first_token + 2.0
    whole.finished = whole.started + 4.0
    join(whole, parts, TokenCounts(completion=808))
    figures = Figures.of(whole)
    assert figures.tpot_s == pytest.approx(0.02)
    assert figures.output_tokens_per_s == pytest.approx(101 / 4)
