"""Follows one engine model: its newest load, whether it lives, and who must hear when it does not.

Triton cannot be asked: after a Python stub is killed it goes on reporting the model as ready, and the
streams in flight hang. So a watch stream pushes `Load` records several times a second, and their silence
leads to a probe. The probe tells the dead engine (it fails at once) from the hung one (no answer for
`watch_hung_s`) and from a watch stream that merely broke.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from frontend.deliveries import Deliveries
from frontend.local_server import LocalServer
from frontend.recovery import restore
from frontend.triton import Triton
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import DeadlineExceeded, EngineUnavailable, ServiceError
from gpt_oss_triton.wire import RECORDS_FORM, Load

if TYPE_CHECKING:
    from frontend.generation import Generation

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 1.0
_RECOVERY_PROBE_S = 0.5
_RESTART_BACKOFF_S = (2.0, 30.0)  # first, longest
_RETRY_AFTER_S = 5.0


class EngineWatch:
    """One engine model and the ensemble in front of it.

    Args:
        target: the name under which requests are routed to it; for messages.

    Attributes:
        load: the newest report; None before the first one and while the engine is lost.
        deliveries: where its tokens arrive.
        on_report: called with each report.
        on_loss: called when the engine is lost, and nobody need wait for it.
        idle: set while this shim has no request in the engine.
    """

    def __init__(
        self, triton: Triton, ensemble: str, engine: str, settings: FrontendSettings, target: str
    ) -> None:
        self.triton = triton
        self.ensemble = ensemble
        self.engine = engine
        self.target = target
        self.deliveries = Deliveries(triton, engine)
        self.load: Load | None = None
        self.on_report: Callable[[Load], None] = lambda load: None
        self.on_loss: Callable[[], None] = lambda: None
        self._settings = settings
        self._label = f"{engine} ({target})"
        self._local = settings.local_triton and not settings.targets  # only then is the server ours to end
        self._seen_at = time.monotonic()
        self._problem = "no report yet"
        self._server: LocalServer | None = None  # of the life that reports, or reported last
        self._generations: set[Generation] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def silence_s(self) -> float:
        """Seconds since the last report, or since the start."""
        return time.monotonic() - self._seen_at

    @property
    def problem(self) -> str | None:
        """Why no request can run now, or None when the engine is ready."""
        if self.load is None:
            return self._problem
        if self.silence_s > self._settings.watch_stale_s:
            return f"silent for {self.silence_s:.1f} s"
        if self._step_hangs:
            return f"its step has run for {self.load.step_age_s:.0f} s"
        return None

    @property
    def _step_hangs(self) -> bool:
        """It reports, from another thread, but computes no more."""
        return self.load is not None and self.load.step_age_s > self._settings.watch_step_s

    @property
    def in_flight(self) -> int:
        """Requests that this shim has in the engine."""
        return len(self._generations)

    def check_ready(self) -> None:
        """Raises EngineUnavailable when the engine is lost. One that is merely silent may be slow: whoever
        has another one asks `problem`."""
        if self.load is None:
            raise EngineUnavailable(
                f"The engine of {self.ensemble} is not ready: {self._problem}.", retry_after_s=_RETRY_AFTER_S
            )

    def attach(self, generation: Generation) -> None:
        self._generations.add(generation)
        self.idle.clear()

    def detach(self, generation: Generation) -> None:
        self._generations.discard(generation)
        if not self._generations:
            self.idle.set()

    async def run(self) -> None:
        """Follow the engine until cancelled."""
        while True:
            try:
                await self._follow()
            except ServiceError as error:
                log.debug("%s: the watch ended: %s", self._label, error.message)
            except TimeoutError:
                log.warning("%s: silent for %.1f s", self._label, self.silence_s)
            except Exception:  # the task's boundary: without a watch the engine would be lost for good
                log.exception("%s: the watch failed", self._label)
            await self._diagnose()
            await asyncio.sleep(self._settings.watch_interval_s)

    async def _follow(self) -> None:
        """Take in reports until the stream ends, fails or falls silent (TimeoutError)."""
        stream = self.triton.watch(self.engine, self._settings.watch_interval_s)
        try:
            while True:
                async with asyncio.timeout(self._settings.watch_stale_s):
                    answer = await stream.read()
                if answer is None:
                    return
                if isinstance(answer.event, Load):
                    self._report(answer.event)
                    if self._step_hangs:
                        return
        finally:
            stream.cancel()

    async def _diagnose(self) -> None:
        """Probe until the engine answers, or is found dead or hung; then bring it back."""
        while True:
            if self.load is not None and self._server is not None and not self._server.stub_lives:
                self._lose("its process has ended")  # a probe may hang on a lock that the process held
                return await self._recover()
            try:
                self._report(await self.triton.ping(self.engine, _PROBE_TIMEOUT_S))
                if not self._step_hangs:
                    return
                if self._server is not None and self._settings.recover:
                    self._lose("its step hangs", gone=False)
                    return await self._recover()
                await asyncio.sleep(self._settings.watch_stale_s / 2)  # it may come back to itself
            except EngineUnavailable:
                self._lose("it is down")
                return await self._recover()
            except ServiceError as error:  # no answer, or a useless one
                if not isinstance(error, DeadlineExceeded):
                    await asyncio.sleep(self._settings.watch_interval_s)
            if self.silence_s > self._settings.watch_hung_s:
                self._lose("it hangs", gone=False)
                if self._server is not None and self._settings.recover:
                    return await self._recover()
                log.error("%s hangs and cannot be restarted from here: restart Triton", self._label)
                self._seen_at = time.monotonic()  # keep probing; say it again after watch_hung_s

    def _report(self, load: Load) -> None:
        if self.load is not None and (load.pid, load.started) != (self.load.pid, self.load.started):
            self._end_life("it was restarted")
        if self.load is None:
            self._meet(load)
        self.load = load
        self._seen_at = time.monotonic()
        self.deliveries.engine_lives()
        self.on_report(load)

    def _meet(self, load: Load) -> None:
        """The first report since it was lost, or at all."""
        log.info("%s is ready (pid %d, %s on %s)", self._label, load.pid, load.dtype, load.device)
        if load.records_form != RECORDS_FORM:
            log.warning(
                "%s and this shim are of versions whose records differ: requests may fail until both are of one",
                self._label,
            )
        if self._local:
            self._server = LocalServer.of(load)

    def _lose(self, problem: str, *, gone: bool = True) -> None:
        """As `_end_life`; those who wait for a place hear of it, too."""
        self._end_life(problem, gone=gone)
        self.on_loss()

    def _end_life(self, problem: str, *, gone: bool = True) -> None:
        """The engine's life is over, and with it that of every request in it; unless it is not `gone` and may
        come back to itself, so that its requests have to be withdrawn."""
        if self.load is not None:
            log.error("%s is lost: %s; %d requests fail", self._label, problem, len(self._generations))
        self.load = None
        self._problem = problem
        self.deliveries.engine_lost()
        error = EngineUnavailable(
            "The engine stopped while the request ran; send it again.", retry_after_s=_RETRY_AFTER_S
        )
        self.stop_all(error, engine_lost=gone)

    def stop_all(self, error: ServiceError, *, engine_lost: bool = False) -> None:
        """Fail every request in flight with `error`."""
        for generation in list(self._generations):
            generation.stop(error, engine_lost=engine_lost)

    async def _recover(self) -> None:
        """Return when the engine answers again: it is probed often and restarted with back-off.

        A server of our own is ended, and its supervisor starts it again: see `local_server`."""
        backoff_s = _RESTART_BACKOFF_S[0]
        ended = self._settings.recover and self._server is not None and self._server.end()
        restart_at = time.monotonic() + (backoff_s if ended else 0.0)
        slow_since: float | None = None
        while True:
            if await self.triton.server_live():  # before the probe: what it finds is then about the engine
                try:
                    self._report(await self.triton.ping(self.engine, _PROBE_TIMEOUT_S))
                    return
                except DeadlineExceeded:  # slow is not dead
                    slow_since = slow_since or time.monotonic()
                except ServiceError as error:
                    log.debug("%s: %s", self._label, error.message)
                    slow_since = None
                slow = slow_since is not None and time.monotonic() - slow_since < self._settings.watch_hung_s
                if self._settings.recover and not slow and time.monotonic() >= restart_at:
                    await self._restore()
                    restart_at = time.monotonic() + backoff_s
                    backoff_s = min(2 * backoff_s, _RESTART_BACKOFF_S[1])
            await asyncio.sleep(_RECOVERY_PROBE_S)

    async def _restore(self) -> None:
        try:
            await restore(self.triton, self.engine, self.ensemble)
        except ServiceError as error:
            log.warning("%s: recovery failed: %s", self._label, error.message)
