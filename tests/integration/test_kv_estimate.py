"""How many KV blocks a request takes can be told from its token counts, so admission can reckon with it."""

import random

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.protocol import NewTokens, PromptAccepted
from gpt_oss_triton.wire import Lease
from tests.unit.engine.conftest import SETTINGS, Call


@pytest.fixture(params=[1, 16, 24])
def engine(checkpoint, request):
    settings = EngineSettings(**{**SETTINGS, "block_size": request.param, "max_sequences": 8})
    engine = NativeEngine.from_settings(settings, checkpoint("fp32"))
    yield engine
    engine.close()


def blocks_of(end, engine):
    """The rule in `SequenceFinished`."""
    return engine.load().block_shape.held(end.prompt_tokens + end.completion_tokens - 1)


def mixed_calls(engine, seed):
    """Prompts around block borders, with shared prefixes, salts, leases and stops; three turns of sessions."""
    rng = random.Random(seed)
    common = [rng.randrange(199_998) for _ in range(300)]
    for _ in range(40):
        prompt = common[: rng.choice([0, 15, 16, 17, 48, 100, 300])] + [
            rng.randrange(199_998) for _ in range(rng.randrange(1, 40))
        ]
        options = {
            "max_tokens": rng.choice([1, 2, 15, 16, 17, 40]),
            "cache_salt": rng.choice(["", "a"]),
            "lease": rng.choice([None, Lease("s", 60), Lease("t", 60)]),
        }
        if rng.random() < 0.3:
            options["stop_text"] = stop_after(rng.randrange(1, 20))
        yield Call(engine, prompt, **options)


def stop_after(tokens):
    left = iter(range(tokens - 1, -1, -1))
    return lambda token: "stop" if next(left) == 0 else None


def test_blocks_at_the_end_follow_from_the_token_counts(engine):
    calls = list(mixed_calls(engine, seed=engine.load().block_size))
    ends = [call.end() for call in calls]
    assert [end.blocks for end in ends] == [blocks_of(end, engine) for end in ends]
    assert {end.finish_reason for end in ends} == {"stop", "length"}
    assert any(end.cached_tokens for end in ends)


def test_a_long_context_takes_half_of_what_all_layers_would(checkpoint):
    """While it runs, too: 900 tokens in 57 full blocks and nine for the window."""
    settings = EngineSettings(**{**SETTINGS, "max_sequences": 1})
    engine = NativeEngine.from_settings(settings, checkpoint("fp32"))
    call = Call(engine, range(900), max_tokens=100)
    call.until(NewTokens)
    load = engine.load()
    assert 57 + 8 <= load.blocks_used <= 63 + 9
    end = call.end()
    assert end.blocks == 63 + 9
    everything = 999 * 2 * 4 * 2 * 16 * 4  # tokens, keys and values, layers, heads, dims, bytes
    assert end.blocks * load.block_bytes < 0.58 * everything
    engine.close()


def test_preempted_sequences_hold_as_many_at_their_end(checkpoint):
    settings = {**SETTINGS, "kv_cache_gib": 250 * 1024 / 2**30, "prefix_cache": False}
    engine = NativeEngine.from_settings(EngineSettings(**settings), checkpoint("fp32"))
    ends = [call.end() for call in [Call(engine, [n] * 40, max_tokens=60) for n in range(1, 7)]]
    assert sum(end.preemptions for end in ends) > 0
    assert [end.blocks for end in ends] == [14] * 6  # 99 tokens are computed
    engine.close()


def test_cancelled_sequences_follow_the_rule_too(engine):
    call = Call(engine, range(33), max_tokens=900)
    for _ in range(5):
        call.until(NewTokens)
    engine.cancel(call.id)
    end = call.end()
    assert end.finish_reason == "cancelled"
    assert end.blocks == blocks_of(end, engine)


def test_one_that_never_ran_held_nothing(checkpoint):
    engine = NativeEngine.from_settings(
        EngineSettings(**{**SETTINGS, "max_sequences": 1}), checkpoint("fp32")
    )
    first = Call(engine, [1], max_tokens=900)
    first.until(NewTokens)
    queued = Call(engine, range(100))
    queued.until(PromptAccepted)
    engine.cancel(queued.id)
    assert queued.end().blocks == 0
    engine.close()
