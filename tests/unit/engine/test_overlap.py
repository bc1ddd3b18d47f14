"""Launching a step before the last one's tokens are known changes nobody's answer."""

import threading

import pytest
import torch

from gpt_oss_triton.engine.protocol import NewTokens
from gpt_oss_triton.errors import EngineUnavailable, InternalError
from tests.unit.engine.conftest import Call

OPTIONS = (
    {"temperature": 0.0},
    {"temperature": 1.0, "top_k": 20, "seed": 1},
    {"temperature": 0.7, "top_k": 50, "seed": 2, "logprobs": 3},
    {"temperature": 1.0, "top_k": 5, "seed": 3, "logit_bias": {7: 5.0}},
)
# A draw waits for the last one's token, or makes the host wait for the device.
WAITING = (
    {"temperature": 1.0, "top_k": 20, "seed": 4, "frequency_penalty": 1.0},
    {"temperature": 1.0, "top_p": 0.9, "seed": 5},
    {"temperature": 1.0, "top_k": 2000, "seed": 7, "repetition_penalty": 1.3},
    {"temperature": 1.0, "seed": 6, "grammar": "start: /[a-z]{200}/", "ignore_eos": False},
)


def answers(engine, options, more=0):
    """`more`: tokens, than a few."""
    calls = [
        Call(engine, range(100 * n, 100 * n + 30 * n + 1), max_tokens=8 + 5 * n + more, **one)
        for n, one in enumerate(options)
    ]
    for call in calls:
        call.end()
    events = [[event for event in call.seen if isinstance(event, NewTokens)] for call in calls]
    # Logits differ in their last bits when a step computes other sequences beside.
    return [[(e.token_ids, e.logprobs and round(e.logprobs[0].logprob, 2)) for e in seen] for seen in events]


def overlapped_steps(engine):
    """Counts, from now on, the steps launched before the last one's end was seen."""
    counted = []
    launch = engine._runner.launch

    def counting(chunks, before):
        if before is not None:
            counted.append(len(chunks))
        return launch(chunks, before)

    engine._runner.launch = counting
    return counted


def test_every_answer_is_the_same(make_engine):
    in_turn, overlapping = make_engine(overlap="off"), make_engine(overlap="on")
    counted = overlapped_steps(overlapping)
    for options in (OPTIONS, (*OPTIONS, *WAITING), OPTIONS[1:] * 3, *((one,) for one in WAITING)):
        counted.clear()
        assert answers(overlapping, options) == answers(in_turn, options)
        assert len(counted) > 5
    in_turn.close()
    overlapping.close()


@pytest.mark.parametrize("options", [OPTIONS, (OPTIONS[0], *WAITING[:3])])
def test_without_room_every_answer_is_the_same(make_engine, options):
    in_turn, overlapping = make_engine(), make_engine(overlap="on", kv_cache_gib=250 * 1024 / 2**30)
    assert answers(overlapping, options, 60) == answers(in_turn, options, 60)
    assert overlapping.load().preemptions > 0
    overlapping._scheduler.pool.check()
    assert overlapping.load().blocks_used == 0
    in_turn.close()
    overlapping.close()


def test_a_step_is_launched_before_the_last_one_is_waited_for(make_engine):
    engine = make_engine(overlap="on")
    launch = engine._runner.launch
    launched, may_land = threading.Semaphore(0), threading.Event()

    def gated(chunks, before):
        flight = launch(chunks, before)
        outcomes = flight.rows.outcomes
        flight.rows.outcomes = lambda: may_land.wait(10) and outcomes()
        launched.release()
        return flight

    engine._runner.launch = gated
    call = Call(engine, [1, 2, 3], max_tokens=4)
    assert launched.acquire(timeout=10)
    assert launched.acquire(timeout=10), "while nobody knows what the first one sampled"
    assert not any(isinstance(event, NewTokens) for event in call.seen)
    may_land.set()
    assert call.end().finish_reason == "length"
    engine.close()


def test_a_device_that_fails_while_the_next_step_flies_ends_everything(make_engine):
    engine = make_engine(overlap="on")
    calls = [Call(engine, [n], max_tokens=900) for n in range(3)]
    calls[0].until(NewTokens)
    launch = engine._runner.launch

    def failing(chunks, before):
        flight = launch(chunks, before)

        def outcomes():
            raise torch.AcceleratorError("device lost\nmore")

        flight.rows.outcomes = outcomes
        return flight

    engine._runner.launch = failing
    for call in calls:
        assert isinstance(call.end().error, EngineUnavailable)
    with pytest.raises(EngineUnavailable, match="device lost"):
        engine.load()
    engine.close()


def test_a_stop_while_the_next_step_flies_holds_what_it_would_have_held(make_engine):
    engines = make_engine(overlap="off"), make_engine(overlap="on")
    for length in (15, 16, 17):  # of the prompt: around the end of a block
        ends = []
        for engine in engines:
            first = Call(engine, range(length), max_tokens=2)
            first.end()
            ends.append(
                Call(
                    engine, range(length), max_tokens=9, stop_token_ids=(first.tokens[1],), cache_salt="x"
                ).end()
            )
        assert [end.finish_reason for end in ends] == ["stop", "stop"]
        assert ends[0].blocks == ends[1].blocks
    for engine in engines:
        assert engine.load().blocks_used == 0
        engine.close()


@pytest.mark.parametrize("options", WAITING)
def test_what_waits_is_sampled_when_the_last_step_has_landed(make_engine, options):
    engine = make_engine(overlap="on")
    done = []
    launch, sample, land = engine._runner.launch, engine._runner.sample, engine._land

    def noting(what, work):
        def noted(*arguments):
            done.append(what)
            return work(*arguments)

        return noted

    engine._runner.launch, engine._runner.sample = noting("launch", launch), noting("sample", sample)
    engine._land = noting("land", land)
    Call(engine, [1, 2, 3], max_tokens=4, **options).end()
    engine.close()
    assert done[:9] == [*("launch", "sample"), *("launch", "land", "sample") * 2, "launch"]


def test_one_whose_late_sampling_fails_fails_alone(make_engine):
    engine = make_engine(overlap="on")
    others = [Call(engine, [n], max_tokens=30, temperature=1.0, seed=n) for n in range(3)]
    sample = engine._runner.sample

    def failing(flight):
        waiting = [chunk.sequence for chunk in flight.sampling if chunk.sequence.sampling.waits]
        if any(sequence.output_tokens > 2 for sequence in waiting):
            raise RuntimeError("no memory")
        return sample(flight)

    engine._runner.sample = failing
    failed = Call(engine, [7], max_tokens=30, **WAITING[1])
    assert isinstance(failed.end().error, InternalError)
    assert len(failed.tokens) == 3
    alone = make_engine(overlap="off")
    for n, call in enumerate(others):
        assert call.end().finish_reason == "length"
        again = Call(alone, [n], max_tokens=30, temperature=1.0, seed=n)
        again.end()
        assert call.tokens == again.tokens
    assert engine.load().failed_steps > 0
    assert engine.load().blocks_used == 0
    for one in (engine, alone):
        one.close()
