"""How late the event loop runs what is due: the time that something blocked it."""

from __future__ import annotations

import asyncio
from collections import deque

_EVERY_S = 0.25
_SAMPLES = 40  # ten seconds


class LoopLag:
    """Measures while `run` runs."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=_SAMPLES)

    @property
    def worst_s(self) -> float:
        """The longest delay of the last ten seconds."""
        return max(self._lags)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._lags.append(max(loop.time() - due, 0.0))
