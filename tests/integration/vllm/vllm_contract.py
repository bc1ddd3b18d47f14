"""Run by the Python that vLLM is installed for: the engine's contract and what is vLLM's own, a JSON line each.

python vllm_contract.py CHECKPOINT
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.choice import make_engine
from gpt_oss_triton.engine.protocol import Engine, NewTokens, PromptAccepted
from gpt_oss_triton.errors import EngineUnavailable, UnsupportedParameter
from tests.engine_contract import CHECKS, LONG, SETTINGS, Call, refused, wait_idle

Check = Callable[[Engine], None]


def a_bias_decides(engine: Engine) -> None:
    call = Call(engine, [5, 6], logit_bias={7777: 100.0})
    call.end()
    assert call.tokens == [7777] * 8


def the_models_own_end_ends_unless_ignored(engine: Engine) -> None:
    for end_id in (200_002, 200_012):
        ended = Call(engine, [5, 6], ignore_eos=False, logit_bias={end_id: 100.0})
        end = ended.end()
        assert (end.finish_reason, end.stop, ended.tokens) == ("stop", end_id, [end_id])
    ignored = Call(engine, [5, 6], max_tokens=3, logit_bias={200_002: 100.0})
    assert (ignored.end().finish_reason, ignored.tokens) == ("length", [200_002] * 3)


def seeds_decide_at_a_temperature(engine: Engine) -> None:
    def drawn(seed: int) -> list[int]:
        call = Call(engine, [5, 6], temperature=2.0, seed=seed)
        call.end()
        return call.tokens

    assert drawn(1) == drawn(1) != drawn(2)


def among(engine: Engine, biases: dict[int, float], **options: Any) -> list[int]:
    """An answer of tokens that only these biases bring up."""
    call = Call(engine, [7777, 5], logit_bias=biases, **options)
    call.end()
    return call.tokens


def cuts_leave_the_likeliest(engine: Engine) -> None:
    near = {7777: 100.0, 8888: 100.0, 9999: 100.0}
    greedy, hot = among(engine, near, max_tokens=24), {"temperature": 2.0, "seed": 3, "max_tokens": 24}
    assert among(engine, near, **hot) != greedy
    for cut in ({"top_k": 1}, {"top_p": 0.0}, {"top_p": 0.01}, {"min_p": 1.0}):
        assert among(engine, near, **hot, **cut) == greedy, cut


def penalties_keep_an_answer_from_repeating(engine: Engine) -> None:
    near = {7777: 100.0, 8888: 100.0, 9999: 100.0}
    assert len(set(among(engine, near, max_tokens=40))) < 3
    assert set(among(engine, near, max_tokens=40, frequency_penalty=2.0)) == set(near)
    every = among(engine, near, max_tokens=40, repetition_penalty=10.0)
    assert len({*every, 7777}) == 41, "the prompt counts as well"
    # One present penalty decides where two tokens are less than that apart, wherever that is.
    pairs = [{8888: 100.0, 9999: float(bias)} for bias in range(80, 101)]
    assert any(
        among(engine, pair, max_tokens=3) != among(engine, pair, max_tokens=3, presence_penalty=2.0)
        for pair in pairs
    )


def prefixes_are_shared_within_a_salt(engine: Engine) -> None:
    prompt = list(range(1000, 1600))

    def cached(salt: str) -> int:
        call = Call(engine, prompt, cache_salt=salt, max_tokens=1)
        end = call.end()
        assert isinstance(call.seen[0], PromptAccepted)
        assert call.seen[0].cached_tokens == 0  # not known yet
        return int(end.cached_tokens)

    assert cached("one") == 0
    assert cached("other") == 0
    assert cached("one") >= 384
    before = engine.load().cached_tokens
    assert cached("other") >= 384
    assert engine.load().cached_tokens > before


def the_step_cannot_be_tuned(engine: Engine) -> None:
    refused(UnsupportedParameter, "max_step_tokens", lambda: engine.tune(64))


def the_load_tells_what_it_is(engine: Engine) -> None:
    wait_idle(engine)
    load = engine.load()
    assert (load.engine, load.gpu_mode, load.device, load.dtype) == ("vllm", "single", "cpu", "bfloat16")
    assert load.blocks_total * load.block_size >= SETTINGS["max_context"]


def its_death_is_told(engine: Engine) -> None:
    """What computes is killed: nobody waits for ever."""
    call = Call(engine, [1], max_tokens=LONG)
    call.until(NewTokens)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    failed = call.end()
    assert isinstance(failed.error, EngineUnavailable), failed
    refused(EngineUnavailable, None, lambda: Call(engine, [1]))
    refused(EngineUnavailable, None, engine.load)


OWN: list[Check] = [
    a_bias_decides,
    the_models_own_end_ends_unless_ignored,
    seeds_decide_at_a_temperature,
    cuts_leave_the_likeliest,
    penalties_keep_an_answer_from_repeating,
    prefixes_are_shared_within_a_salt,
    the_step_cannot_be_tuned,
    the_load_tells_what_it_is,
]
# Two engines: the last check of each leaves none.
LIVES: list[list[Check]] = [[*CHECKS[:-1], *OWN, CHECKS[-1]], [its_death_is_told]]


def run(checkpoint: Path) -> None:
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes to standard output, and so do its processes
    settings = EngineSettings(engine="vllm", dtype="bfloat16", kv_cache_gib=0.25, **SETTINGS)
    for checks in LIVES:
        with contextlib.closing(make_engine(settings, lambda: checkpoint)) as engine:
            for check in checks:
                print(
                    json.dumps({"check": check.__name__, "fault": _fault(check, engine)}),
                    file=results,
                    flush=True,
                )


def _fault(check: Check, engine: Engine) -> str | None:
    try:
        check(engine)
    except Exception:
        return traceback.format_exc()
    return None


if __name__ == "__main__":  # vLLM starts processes that import this
    run(Path(sys.argv[1]))
