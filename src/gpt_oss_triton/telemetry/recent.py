"""How the requests of the last minute went: percentiles and throughput for `/stats`."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gpt_oss_triton.telemetry.figures import Figures

WINDOW_S = 60
MAX_REQUESTS = 4096  # whose times are kept; of more in one minute the percentiles are of the newest


class Recent:
    """Finished answers of the last `WINDOW_S` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests: deque[tuple[float, Figures]] = deque(maxlen=MAX_REQUESTS)
        self._seconds: deque[list[int]] = deque(maxlen=WINDOW_S)  # [second, requests, tokens]

    def add(self, figures: Figures, tokens: int) -> None:
        now = self._clock()
        self._requests.append((now, figures))
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append([int(now), 0, 0])
        self._seconds[-1][1] += 1
        self._seconds[-1][2] += tokens

    def summary(self) -> dict[str, Any]:
        """Seconds, and None where the window has no value."""
        since = self._clock() - WINDOW_S
        seconds = [entry for entry in self._seconds if entry[0] > since]
        figures = [f for at, f in self._requests if at > since]
        ttft = sorted(f.ttft_s for f in figures if f.ttft_s is not None)
        e2e = sorted(f.e2e_s for f in figures)
        tpot = sorted(f.tpot_s for f in figures if f.tpot_s is not None)
        return {
            "window_s": WINDOW_S,
            "requests": sum(requests for _, requests, _ in seconds),
            "ttft_p50_s": _percentile(ttft, 50),
            "ttft_p95_s": _percentile(ttft, 95),
            "e2e_p50_s": _percentile(e2e, 50),
            "e2e_p95_s": _percentile(e2e, 95),
            "tpot_p50_s": _percentile(tpot, 50),
            "output_tokens_per_s": sum(tokens for _, _, tokens in seconds) / WINDOW_S,
        }


def _percentile(ascending: list[float], percent: int) -> float | None:
    """By nearest rank."""
    return ascending[math.ceil(len(ascending) * percent / 100) - 1] if ascending else None
