"""What operators and the shim ask of a native engine: leases, salts, the size of a step, its load."""

import threading
import time

import pytest

from gpt_oss_triton.engine.protocol import NewTokens, PromptAccepted
from gpt_oss_triton.wire import Lease
from tests.unit.engine.conftest import Call


@pytest.fixture(scope="module", params=["off", "on"], ids=["in turn", "overlapping"])
def overlap(request):
    return request.param


DEADLINE_S = 10.0


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def cached_tokens(engine, prompt, **options):
    call = Call(engine, prompt, max_tokens=1, **options)
    call.end()
    return call.seen[0].cached_tokens


@pytest.fixture
def small(make_engine):
    """Room for 80 blocks of 16 tokens: 2 * 2 layers * 2 heads * 16 dims * 4 bytes a token."""
    engine = make_engine(kv_cache_gib=640 * 1024 / 2**30, session_watermark=0.5)
    assert engine.load().blocks_total == 80
    yield engine
    engine.close()


def test_a_leased_prefix_outlives_the_traffic_that_evicts_others(small):
    prompts = {"leased": list(range(1000, 1100)), "plain": list(range(2000, 2100))}
    Call(small, prompts["leased"], lease=Lease("s", 60)).end()
    Call(small, prompts["plain"]).end()
    load = small.load()
    assert (load.leases, load.blocks_leased, load.blocks_cached) == (1, 12, 24)
    for n in range(3):
        Call(small, range(3000 + 500 * n, 3400 + 500 * n)).end()
    assert cached_tokens(small, prompts["plain"]) == 0
    assert cached_tokens(small, prompts["leased"]) == 96


def test_a_running_sequence_wins_over_leases(small):
    for n in range(3):
        Call(small, range(1000 * n, 1000 * n + 96), max_tokens=2, lease=Lease(f"s{n}", 60)).end()
    assert small.load().blocks_leased == 36
    end = Call(small, range(5000, 5940), max_tokens=8).end()
    assert (end.finish_reason, end.preemptions, end.blocks) == ("length", 0, 60 + 9)
    load = small.load()
    assert load.leases == 0
    assert load.leases_ended["pressure"] == 3
    assert load.blocks_total == 80


def test_a_session_grows_turn_by_turn_under_one_lease(engine):
    history = list(range(700, 740))
    for turn in range(3):
        call = Call(engine, history, lease=Lease("grows", 60))
        assert call.until(PromptAccepted).cached_tokens >= 16 * (2 * turn)
        call.end()
        history += [*call.tokens, *range(800 + 40 * turn, 830 + 40 * turn)]
    load = engine.load()
    assert (load.leases, load.leases_ended["replaced"]) == (1, 2)
    engine.end_leases(["grows", "unknown"])
    assert (engine.load().leases, engine.load().leases_ended["asked"]) == (0, 1)


def test_an_idle_engine_ends_leases_by_its_own_clock(engine):
    before = engine.load().leases_ended["idle"]
    Call(engine, range(40), lease=Lease("short", 0.05)).end()
    wait_until(lambda: engine.load().leases_ended["idle"] == before + 1)
    load = engine.load()
    assert (load.leases, load.blocks_leased) == (0, 0)


def test_without_prefix_cache_there_is_nothing_to_lease(make_engine):
    engine = make_engine(prefix_cache=False)
    Call(engine, range(40), lease=Lease("s", 60)).end()
    load = engine.load()
    assert (load.leases, load.blocks_cached) == (0, 0)
    engine.close()


def test_numbers_that_are_none_end_the_leases_on_them(make_engine):
    engine = make_engine()
    prompt = list(range(500, 540))
    Call(engine, prompt, lease=Lease("s", 60)).end()
    forward = engine._runner._executor.forward
    engine._runner._executor.forward = lambda *step: forward(*step) * float("nan")
    Call(engine, prompt).end()
    load = engine.load()
    assert (load.leases, load.blocks_cached, load.leases_ended["failed"]) == (0, 0, 1)
    engine._scheduler.pool.check()
    engine.close()


def test_tenants_share_no_prefix(engine):
    prompt = list(range(4000, 4100))
    assert cached_tokens(engine, prompt, cache_salt="one") == 0
    assert cached_tokens(engine, prompt, cache_salt="other") == 0
    assert cached_tokens(engine, prompt) == 0
    assert cached_tokens(engine, prompt, cache_salt="one") == 96


def test_a_salt_changes_no_answer(engine):
    plain, salted = Call(engine, range(60)), Call(engine, range(60), cache_salt="x")
    plain.end()
    salted.end()
    assert plain.tokens == salted.tokens


def test_the_step_is_tuned_and_reset(make_engine):
    engine = make_engine(max_sequences=8)
    chunks = []
    launch = engine._runner.launch
    engine._runner.launch = lambda step, before: (
        chunks.append(sum(c.tokens for c in step)) or launch(step, before)
    )
    assert engine.load().max_step_tokens == 64
    engine.tune(16)
    assert engine.load().max_step_tokens == 16
    Call(engine, range(100), max_tokens=1).end()
    assert max(chunks) == 16
    engine.tune(None)
    assert engine.load().max_step_tokens == 64
    chunks.clear()
    Call(engine, range(200, 300), max_tokens=1).end()
    assert max(chunks) == 64
    engine.close()


def test_the_load_tells_what_the_engine_is(make_engine):
    engine = make_engine(profile="latency_first")
    load = engine.load()
    assert (load.engine, load.gpu_mode, load.tensor_parallel, load.pipeline_parallel) == (
        "native",
        "single",
        1,
        1,
    )
    assert load.profile == "latency_first"
    # Tokens, keys and values, layers of a kind, heads, dims, bytes.
    assert load.block_bytes == 16 * 2 * 2 * 2 * 16 * 4
    assert (load.block_size, load.block_window) == (16, 128)
    assert load.leases_ended == dict.fromkeys(["idle", "pressure", "asked", "replaced", "failed"], 0)
    engine.close()


def test_the_load_tells_what_waits_and_how_long(make_engine):
    engine = make_engine(max_sequences=1)
    gate, entered = threading.Event(), threading.Event()
    launch = engine._runner.launch

    def gated(chunks, before):
        entered.set()
        gate.wait(DEADLINE_S)
        return launch(chunks, before)

    assert engine.load().prefill_tokens_per_s == 0
    engine._runner.launch = gated
    first = Call(engine, range(100), max_tokens=2)
    assert entered.wait(DEADLINE_S)
    second = Call(engine, range(300, 350), max_tokens=2)
    time.sleep(0.02)
    load = engine.load()
    assert (load.running, load.waiting, load.prefill_tokens_left) == (1, 1, 150)
    assert load.queue_wait_s >= 0.02
    gate.set()
    first.until(NewTokens)
    second.end()
    first.end()
    load = engine.load()
    assert (load.prefill_tokens_left, load.queue_wait_s) == (0, 0)
    assert load.prefill_tokens_per_s > 0
    engine.close()


def test_a_cached_prefix_is_not_counted_as_left(make_engine):
    engine = make_engine(max_sequences=1)
    Call(engine, range(100), max_tokens=1).end()
    first = Call(engine, [1], max_tokens=900)
    first.until(NewTokens)
    second = Call(engine, range(100), max_tokens=1)
    assert engine.load().prefill_tokens_left == 100 - 96
    engine.cancel(second.id)
    engine.cancel(first.id)
    first.end()
    second.end()
    engine.close()


def test_copies_that_come_together_compute_their_prompt_once(make_engine):
    engine = make_engine(max_sequences=8)
    gate = threading.Event()
    launch = engine._runner.launch
    engine._runner.launch = lambda chunks, before: gate.wait(DEADLINE_S) and launch(chunks, before)
    prompt = list(range(6000, 6200))
    calls = [Call(engine, prompt, temperature=1.0, top_k=4, seed=n, max_tokens=6) for n in range(8)]
    gate.set()
    ends = [call.end() for call in calls]
    assert sorted(end.cached_tokens for end in ends) == [0] + [192] * 7
    assert engine.load().cached_tokens == 7 * 192
    for n, call in enumerate(calls):
        alone = Call(engine, prompt, temperature=1.0, top_k=4, seed=n, max_tokens=6, cache_salt="alone")
        alone.end()
        assert alone.tokens == call.tokens
    engine.close()


def test_when_the_computing_one_is_cancelled_or_fails_the_next_takes_over(make_engine):
    engine = make_engine(max_sequences=8)
    launch = engine._runner.launch
    prompt = list(range(6000, 6200))
    doomed = {}

    def ending(chunks, before):
        for chunk in chunks:
            if chunk.sequence.request.request_id in doomed and chunk.sequence.computed:
                if doomed[chunk.sequence.request.request_id] == "cancel":
                    engine.cancel(chunk.sequence.request.request_id)
                else:
                    raise RuntimeError("bad kernel")
        return launch(chunks, before)

    gate = threading.Event()
    engine._runner.launch = lambda chunks, before: gate.wait(DEADLINE_S) and ending(chunks, before)
    calls = [Call(engine, prompt) for _ in range(4)]
    doomed |= {calls[0].id: "cancel", calls[1].id: "fail"}
    gate.set()
    cancelled, failed, *rest = [call.end() for call in calls]
    assert cancelled.finish_reason == "cancelled"
    assert "failed" in failed.error.message
    assert [end.finish_reason for end in rest] == ["length"] * 2
    assert calls[2].tokens == calls[3].tokens
    engine.close()
