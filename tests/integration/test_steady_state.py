"""Many short requests of mixed lengths, some with a prefix in common, some cancelled: no block is lost, memory does not
grow, and nobody's answer depends on the crowd.

`STEADY_REQUESTS` says how many; a full run is 10,000.
"""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Iterator

import psutil
import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    EngineRequest,
    NewTokens,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.kernels.cpu import library
from gpt_oss_triton.wire import GenerationOptions
from tests.engine_contract import wait_idle

REQUESTS = int(os.environ.get("STEADY_REQUESTS", "1000"))
AT_ONCE = 48  # more than run together, so that some wait
SAMPLE = 40  # answers that are compared
WARM_UP = 0.4  # of the requests, after which memory must not grow
GROWTH_MIB = 16  # that the allocator may need nevertheless
DEADLINE_S = 60
RUNNING = 24
# Few blocks: what is cached is given up all the time, and a sequence may have to give way.
SETTINGS = {"max_context": 512, "kv_cache_gib": 0.001, "max_step_tokens": 128, "threads": 2}
PREFIXES = [[random.Random(f"prefix/{n}").randrange(199_998) for _ in range(96)] for n in range(8)]


@pytest.fixture(scope="module")
def weights(checkpoint):
    """Those whose answers are the same in any batch: the CPU kernels' are by construction, plain torch's in practice
    with float32."""
    return checkpoint("mxfp4" if library.why_unavailable() is None else "fp32")


@pytest.fixture(scope="module")
def engine(weights) -> Iterator[NativeEngine]:
    engine = NativeEngine.from_settings(EngineSettings(**SETTINGS, max_sequences=RUNNING), weights)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lonely_engine(weights) -> Iterator[NativeEngine]:
    """Where each request is alone, and finds nothing of another one."""
    settings = EngineSettings(**SETTINGS, max_sequences=1, prefix_cache=False)
    engine = NativeEngine.from_settings(settings, weights)
    yield engine
    engine.close()


def request(n: int) -> EngineRequest:
    rng = random.Random(n)
    prefix = rng.choice(PREFIXES) if rng.random() < 0.6 else []
    prompt = prefix + [rng.randrange(199_998) for _ in range(rng.randrange(1, 80))]
    sampled = {"temperature": 1.0, "seed": n} if rng.random() < 0.1 else {"temperature": 0}
    most = rng.randrange(1, 16) if rng.random() < 0.97 else rng.randrange(50, 120)
    options = GenerationOptions(max_tokens=most, ignore_eos=True, **sampled)
    return EngineRequest(f"steady-{n}", prompt, options)


def cancelled_at(n: int) -> int | None:
    """The token with which the request is cancelled, 0 for at once; None for most."""
    return random.Random(f"cancel/{n}").choice([0, 1, 2, 5]) if n % 10 == 3 else None


class Crowd:
    """Keeps `AT_ONCE` requests going and looks at the blocks whenever one ends.

    Attributes:
        answers: tokens of each request that was kept.
        wrong: what went wrong, failed requests included, in words.
        reasons: how the others ended.
    """

    def __init__(self, engine: NativeEngine, kept: set[int]) -> None:
        self._engine = engine
        self._room = threading.Semaphore(AT_ONCE)
        self.answers: dict[int, list[int]] = {n: [] for n in kept}
        self.wrong: list[str] = []
        self.reasons: list[str] = []

    def submit(self, n: int) -> None:
        assert self._room.acquire(timeout=DEADLINE_S), f"nothing ends any more: {self.wrong[:1]}"
        tokens, cancel_at = self.answers.get(n, []), cancelled_at(n)

        def take(event: EngineEvent) -> None:
            if isinstance(event, NewTokens):
                tokens.extend(event.token_ids)
                if cancel_at is not None and len(tokens) >= cancel_at:
                    self._engine.cancel(f"steady-{n}")
            elif isinstance(event, SequenceFinished | SequenceFailed):
                self._take_end(n, event)

        self._engine.submit(request(n), take)
        if cancel_at == 0:
            self._engine.cancel(f"steady-{n}")

    def _take_end(self, n: int, event: SequenceFinished | SequenceFailed) -> None:
        """On the engine's thread, so that no block moves meanwhile."""
        if isinstance(event, SequenceFailed):
            self.wrong.append(f"request {n} failed: {event.error.message}")
        else:
            self.reasons.append(event.finish_reason)
        try:
            self._engine._scheduler.pool.check()
        except AssertionError as error:
            self.wrong.append(f"after request {n}: {error}")
        self._room.release()

    def wait(self) -> None:
        """Until the last one has told of its end."""
        for _ in range(AT_ONCE):
            assert self._room.acquire(timeout=DEADLINE_S), f"nothing ends any more: {self.wrong[:1]}"


def resident_mib() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.slow
def test_long_use_leaves_nothing_behind(engine: NativeEngine, lonely_engine: NativeEngine) -> None:
    usual = [n for n in range(REQUESTS) if cancelled_at(n) is None]
    kept = set(usual[:: max(1, len(usual) // SAMPLE)])
    crowd = Crowd(engine, kept)
    memory = []
    for n in range(REQUESTS):
        crowd.submit(n)
        if n >= REQUESTS * WARM_UP and n % max(1, REQUESTS // 20) == 0:
            memory.append(resident_mib())
    crowd.wait()
    wait_idle(engine)
    memory.append(resident_mib())

    assert not crowd.wrong, (len(crowd.wrong), crowd.wrong[0])
    assert len(crowd.reasons) == REQUESTS
    assert set(crowd.reasons) == {"length", "cancelled"}
    load = engine.load()
    assert load.cached_tokens > 0
    assert load.prompt_tokens > 20 * load.blocks_total * load.block_size, (
        "blocks were not used again and again"
    )
    assert max(memory) - memory[0] < GROWTH_MIB, memory
    # Those of the last step are still at hand.
    assert sum(type(thing) is Sequence and is_ours(thing) for thing in gc.get_objects()) <= RUNNING
    assert crowd.answers == {n: alone(lonely_engine, n) for n in kept}


def is_ours(sequence: Sequence) -> bool:
    return sequence.request.request_id.startswith("steady-")


def alone(engine: NativeEngine, n: int) -> list[int]:
    tokens: list[int] = []
    ended = threading.Event()

    def take(event: EngineEvent) -> None:
        if isinstance(event, NewTokens):
            tokens.extend(event.token_ids)
        elif isinstance(event, SequenceFinished | SequenceFailed):
            ended.set()

    engine.submit(request(n), take)
    assert ended.wait(DEADLINE_S)
    return tokens
