"""Requests that go on for as long as something is measured beside them, or in them, on the engine alone."""

from __future__ import annotations

import itertools
import time
from functools import partial

from gpt_oss_triton.engine.protocol import Engine, EngineEvent, EngineRequest, NewTokens, SequenceFailed
from gpt_oss_triton.wire import GenerationOptions

POLL_S = 0.005
_numbers = itertools.count()


class RunningStreams:
    """Starts them; greedy, one for each prompt. Ends them when its `with` block ends.

    Attributes:
        arrivals: of each stream, when its tokens came, by `time.perf_counter`. Written by the engine's thread.
    """

    def __init__(self, engine: Engine, prompts: list[list[int]], max_tokens: int) -> None:
        self._engine = engine
        self._max_tokens = max_tokens
        self._failed: str | None = None
        self.arrivals: list[list[float]] = [[] for _ in prompts]
        self._ids = [f"running-{next(_numbers)}" for _ in prompts]
        options = GenerationOptions(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        for n, prompt in enumerate(prompts):
            engine.submit(EngineRequest(self._ids[n], prompt, options), partial(self._take, n))

    def __enter__(self) -> RunningStreams:
        return self

    def __exit__(self, *_: object) -> None:
        live = self._ids
        while live := [one for one in live if self._engine.cancel(one)]:
            time.sleep(POLL_S)

    def _take(self, n: int, event: EngineEvent) -> None:
        if isinstance(event, NewTokens):
            self.arrivals[n] += [time.perf_counter()] * len(event.token_ids)
        elif isinstance(event, SequenceFailed):
            self._failed = event.error.message

    def wait(self, tokens: int) -> float:
        """Until each stream has had so many tokens while all of them ran; since when they do.

        Raises:
            RuntimeError: one failed, or ended too early.
        """
        while True:
            self.check()
            if all(self.arrivals):
                began = max(times[0] for times in self.arrivals)
                if all(sum(at >= began for at in times) >= tokens for times in self.arrivals):
                    return began
            time.sleep(POLL_S)

    def check(self) -> None:
        """
        Raises:
            RuntimeError: they do not run any more.
        """
        if self._failed is not None:
            raise RuntimeError(self._failed)
        if any(len(times) >= self._max_tokens for times in self.arrivals):
            raise RuntimeError("A stream ended before what was to be measured; give it more tokens.")


def gaps(arrivals: list[float], begin: float, end: float) -> list[float]:
    """Seconds between tokens of one stream, for those that came in [begin, end]."""
    return [b - a for a, b in itertools.pairwise(arrivals) if begin <= b <= end]
