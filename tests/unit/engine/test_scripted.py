"""The scripted engine: what its script says comes as the native engine would deliver it."""

import json
import time

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.protocol import NewTokens, PromptAccepted, SequenceFailed, SequenceFinished
from gpt_oss_triton.engine.script import Script
from gpt_oss_triton.engine.scripted import ScriptedEngine
from gpt_oss_triton.errors import DeadlineExceeded, EngineUnavailable, InternalError, Overloaded
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.wire import TokenLogprobs
from tests.engine_contract import Call

RETURN = tokens.RETURN


@pytest.fixture
def play(tmp_path):
    """`play(rule, …)`: an engine on these lines."""
    engines = []

    def make(*lines, **settings):
        path = tmp_path / f"{len(engines)}.jsonl"
        path.write_text("\n".join(json.dumps(line) for line in lines))
        given = EngineSettings(engine="scripted", script=path, **settings)
        engines.append(ScriptedEngine(Script.read(path), given))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def ask(engine, prompt=(1, 2, 3), **options):
    call = Call(engine, prompt, **{"max_tokens": None, "ignore_eos": False, **options})
    return call, call.end()


def chunks(call):
    return [event.token_ids for event in call.seen if isinstance(event, NewTokens)]


def test_tokens_come_one_by_one_and_end_with_the_answers_own_end(play):
    call, end = ask(play({"token_ids": [10, 11, RETURN, 12]}))
    assert chunks(call) == [[10], [11], [RETURN]]
    assert (end.finish_reason, end.stop, end.completion_tokens) == ("stop", RETURN, 3)


def test_chunks_come_in_turn_and_are_cut_at_the_end(play):
    call, end = ask(play({"token_ids": [*range(8), RETURN, 99], "chunk": [1, 3]}))
    assert chunks(call) == [[0], [1, 2, 3], [4], [5, 6, 7], [RETURN]]
    assert end.finish_reason == "stop"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("stop", RETURN, 4)),
        ({"max_tokens": 2}, ("length", None, 2)),
        ({"stop_token_ids": [11]}, ("stop", 11, 2)),
        ({"ignore_eos": True}, ("length", None, 6)),
        ({"max_tokens": 4}, ("stop", RETURN, 4)),  # the end that the model gave comes first
    ],
)
@pytest.mark.parametrize("chunk", [[1], [2], [4, 1], [100]])
def test_limits_and_stops_cut_any_chunking_alike(play, options, expected, chunk):
    _, end = ask(play({"token_ids": [10, 11, 12, RETURN, 13, 14], "chunk": chunk}), **options)
    assert (end.finish_reason, end.stop, end.completion_tokens) == expected


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_script_that_just_ends_says_why(play, reason):
    call, end = ask(play({"token_ids": [1, 2], "finish_reason": reason}))
    assert (call.tokens, end.finish_reason, end.stop) == ([1, 2], reason, None)


@pytest.mark.parametrize(("after", "tokens_before"), [(0, []), (2, [10, 11])])
@pytest.mark.parametrize("chunk", [[1], [3]])
def test_a_failure_comes_after_its_tokens(play, after, tokens_before, chunk):
    engine = play(
        {"token_ids": [10, 11, 12], "fail": "deadline_exceeded", "fail_after": after, "chunk": chunk}
    )
    call, end = ask(engine)
    assert isinstance(end, SequenceFailed)
    assert isinstance(end.error, DeadlineExceeded)
    assert call.tokens == tokens_before
    assert isinstance(call.seen[0], PromptAccepted)
    assert ask(engine, max_tokens=after + 1)[1] is not None  # the engine goes on


def test_a_failure_at_the_very_end_wins_over_it(play):
    assert isinstance(ask(play({"token_ids": [1, 2], "fail": "internal_error", "fail_after": 2}))[1].error, InternalError)  # fmt: skip


def test_an_answer_that_ends_before_its_failure_does_not_fail(play):
    engine = play({"token_ids": [1, RETURN, 3], "fail": "internal_error", "fail_after": 3})
    assert ask(engine)[1].finish_reason == "stop"


def test_a_refusal_leaves_nothing_behind(play):
    engine = play({"refuse": "overloaded", "times": 1}, {"token_ids": [1]})
    with pytest.raises(Overloaded):
        ask(engine)
    load = engine.load()
    assert (load.running, load.waiting) == (0, 0)
    assert isinstance(ask(engine)[1], SequenceFinished)


def test_cached_tokens_are_what_the_script_says(play):
    engine = play({"token_ids": [1], "cached_tokens": 2, "times": 1}, {"token_ids": [1], "cached_tokens": 99})
    call, end = ask(engine)
    assert (call.seen[0].cached_tokens, end.cached_tokens) == (2, 2)
    call, end = ask(engine)
    assert (call.seen[0].cached_tokens, end.cached_tokens) == (2, 2)  # one token at least is computed
    assert engine.load().cached_tokens == 4


def test_log_probabilities_are_certain(play):
    engine = play({"token_ids": [10, 11], "chunk": [2]})
    call, _ = ask(engine, logprobs=3)
    (new,) = (event for event in call.seen if isinstance(event, NewTokens))
    assert new.logprobs == [TokenLogprobs(0.0, [(10, 0.0)]), TokenLogprobs(0.0, [(11, 0.0)])]
    (bare,) = (event for event in ask(engine, logprobs=0)[0].seen if isinstance(event, NewTokens))
    assert bare.logprobs == [TokenLogprobs(0.0, []), TokenLogprobs(0.0, [])]
    assert ask(engine)[0].seen[1].logprobs is None


def test_what_has_no_effect_is_taken(play):
    engine = play({"token_ids": [10, RETURN]})
    call, end = ask(engine, temperature=2.0, seed=3, grammar='start: "x"', logit_bias={10: -100.0})
    assert (call.tokens, end.finish_reason) == ([10, RETURN], "stop")


def test_delays_are_kept(play):
    engine = play({"token_ids": [1, 2, 3], "first_token_s": 0.1, "token_s": 0.05})
    began = time.monotonic()
    call, end = ask(engine)
    assert time.monotonic() - began >= 0.2
    assert end.timings.first_token - end.timings.scheduled >= 0.1
    assert call.tokens == [1, 2, 3]


def test_a_slow_answer_holds_up_no_other(play):
    engine = play({"token_ids": [7], "first_token_s": 3600, "times": 1}, {"token_ids": [8]})
    slow = Call(engine, [1])
    assert ask(engine)[0].tokens == [8]
    engine.cancel(slow.id)
    end = slow.end()
    assert (end.finish_reason, end.blocks) == ("cancelled", 1)


def test_the_rate_is_that_of_all_streams_together(play):
    engine = play({"engine": {"tokens_per_s": 2000}}, {"repeat": "on and on ", "tokens": 50})
    began = time.monotonic()
    calls = [Call(engine, [n], ignore_eos=False, max_tokens=None) for n in range(8)]
    for call in calls:
        assert call.end().finish_reason == "stop"
    # 8 times 50 tokens, the first of each at once
    assert time.monotonic() - began >= 8 * 49 / 2000
    assert {tuple(call.tokens) for call in calls} == {tuple(calls[0].tokens)}


def test_many_streams_keep_their_own_answers_and_order(play):
    rules = [{"token_ids": [n, *range(1000, 1040), RETURN], "times": 1, "chunk": [1, 2]} for n in range(64)]
    engine = play(*rules, max_sequences=16)
    calls = [Call(engine, [1], ignore_eos=False, max_tokens=None) for _ in range(64)]
    for n, call in enumerate(calls):
        assert call.end().finish_reason == "stop"
        assert call.tokens == [n, *range(1000, 1040), RETURN]
    assert engine.load().output_tokens == 64 * 42


def test_waiting_ones_run_in_their_order(play):
    engine = play({"token_ids": [1, 2, 3], "token_s": 0.01}, max_sequences=1)
    started = [Call(engine, [n]).end().timings for n in range(3)]
    assert sorted(started, key=lambda timings: timings.scheduled) == started


def test_closing_lets_answers_end_for_a_while(play):
    engine = play({"token_ids": [1, 2, 3], "token_s": 0.05})
    call = Call(engine, [1])
    engine.close(drain_s=30)
    assert call.end().finish_reason == "length"


def test_a_broken_engine_fails_what_lives_and_refuses_the_rest(play, monkeypatch):
    engine = play({"token_ids": [1], "first_token_s": 3600})
    live = Call(engine, [1])
    monkeypatch.setattr(engine, "_admit", lambda now: 1 / 0)
    failed = Call(engine, [1]).end()
    for error in (failed.error, live.end().error):
        assert isinstance(error, EngineUnavailable)
        assert "ZeroDivisionError" in error.message
    for refused in (lambda: Call(engine, [1]), engine.load):
        with pytest.raises(EngineUnavailable):
            refused()
