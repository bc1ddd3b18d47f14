"""What all requests share: the targets, who is admitted to them, sessions, telemetry, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Self

import msgspec

from frontend.admission.admission import Admission, Placement
from frontend.admission.ask import Ask
from frontend.admission.degradation import Relief
from frontend.background import BackgroundTasks
from frontend.caller import Caller
from frontend.chat_reply import fingerprint
from frontend.dispatch import Dispatch
from frontend.engine_controls import EngineControls
from frontend.generation import Generation
from frontend.recovery import keep_normalizer
from frontend.response_cache import ResponseCache
from frontend.routing.prefix_index import prefix_points
from frontend.routing.router import Router
from frontend.routing.sessions import Sessions, Turn
from frontend.routing.target import Target, check_targets, make_targets
from frontend.run_request import RunRequest
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ConfigurationError, EngineUnavailable, ModelNotFound
from gpt_oss_triton.telemetry import events
from gpt_oss_triton.telemetry.labels import EngineLabels
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry
from gpt_oss_triton.wire import ENGINE_OF, Load

log = logging.getLogger(__name__)

_ON_THEIR_WAY_S = 0.02
_FAREWELL_S = 3.0  # for cancels on their way and for error events to be written


def check_models(settings: FrontendSettings) -> None:
    """Raises ConfigurationError when a model has no engine."""
    for model, ensemble in settings.models.items():
        if ensemble not in ENGINE_OF:
            known = ", ".join(ENGINE_OF)
            raise ConfigurationError(
                f"models: {model!r} is {ensemble!r} in Triton, which is none of: {known}."
            )
    check_targets(settings)


class Service:
    """Made by `running`.

    Attributes:
        started: monotonic seconds.
        created: Unix seconds, what the API calls a model's creation.
        models: model id at the API -> ensemble; ids may share one.
        targets: where requests can run.
        draining: no new completions; those in flight go on.
        sampling: defaults of a request's fields.
    """

    def __init__(self, settings: FrontendSettings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.started = time.monotonic()
        self.created = int(time.time())
        self.models = settings.models
        self.draining = False
        self._stopping = False
        self.sampling = {
            "temperature": settings.default_temperature,
            "top_p": settings.default_top_p,
            "reasoning_effort": settings.default_reasoning_effort,
        }
        self.targets = make_targets(settings)
        self.sessions = Sessions(settings.max_sessions, settings.session_idle_s)
        self.router = Router(self.targets, settings, self.sessions)
        self.admission = Admission(self.router, settings)
        self.response_cache = ResponseCache(settings.response_cache_entries, settings.response_cache_ttl_s)
        self._background = BackgroundTasks()
        controls = EngineControls(self.targets, self.sessions, self._background)
        self._relief = Relief(controls.tune, controls.end_idle_sessions)
        self.admission.on_level = self._level_changed
        for target in self.targets:
            target.on_report = partial(self._reported, target, controls)
            target.watch.on_loss = self.admission.wake

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: FrontendSettings, telemetry: Telemetry) -> AsyncIterator[Self]:
        """A service whose engines are watched."""
        service = cls(settings, telemetry)
        tasks = [
            asyncio.create_task(work, name=f"{what} {target.name}")
            for target in service.targets
            for what, work in (("watch", target.watch.run()), ("deliveries", target.watch.deliveries.run()))
        ]
        tasks += [
            asyncio.create_task(keep_normalizer(triton), name=f"normalizer {triton.url}")
            for triton in {target.watch.triton for target in service.targets}
        ]
        tasks.append(asyncio.create_task(service.sessions.run(settings.session_sweep_s), name="sessions"))
        try:
            async with telemetry.running():
                yield service
        finally:
            await service._background.finish(_FAREWELL_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for triton in {target.watch.triton for target in service.targets}:
                await triton.close()

    def resolve(self, model: str) -> str:
        """The ensemble that serves a model id. Raises ModelNotFound."""
        try:
            return self.models[model]
        except KeyError:
            known = ", ".join(self.models)
            raise ModelNotFound(
                f"There is no model {model[:64]!r}; served are: {known}.", param="model"
            ) from None

    def cache_key(self, caller: Caller, ensemble: str, request: RunRequest) -> bytes | None:
        """Under which the response cache holds the answer; None where it keeps none."""
        return self.response_cache.key(
            caller.salt, ensemble, fingerprint(self.load_of(ensemble)), request.prompt, request.options
        )

    def load_of(self, ensemble: str, target: str | None = None) -> Load | None:
        """The newest report of a target of the ensemble: the named one, or any."""
        of_ensemble = [t for t in self.targets if t.ensemble == ensemble and target in (None, t.name)]
        return next((t.load for t in of_ensemble if t.load is not None), None)

    def ask(self, request: RunRequest, body: bytes, caller: Caller, turn: Turn, record: RequestRecord) -> Ask:
        """What admission and routing know of a request. Its prompt may be long: see `apart_if_large`."""
        ensemble = self.resolve(request.model)
        options = request.options
        limits = [limit for limit in (options.max_tokens, options.most_tokens) if limit is not None]
        estimate = self.admission.estimate(ensemble, request.prompt, min(limits, default=None))
        return Ask(
            ensemble=ensemble,
            caller=caller,
            priority="low" if request.flex else caller.priority,
            estimate=estimate,
            prefix=prefix_points(request.prompt, caller.salt, estimate.prompt_tokens),
            session=turn.session,
            booking=_booking(body, caller),
            deadline=time.monotonic() + self.settings.request_timeout_s,
            record=record,
        )

    def ask_again(self, ask: Ask, body: bytes, record: RequestRecord) -> Ask:
        """The same of another answer to its prompt, whose work is done; with the session goes the first one alone."""
        return dataclasses.replace(
            ask,
            booking=_booking(body, ask.caller),
            record=record,
            session=None,
            excluded=set(),
            first=ask,
            same_prompt=True,
        )

    def dispatch(self, ask: Ask, request: RunRequest, turn: Turn, request_id: str) -> Dispatch:
        """A request to enter, on whichever target admission finds for it."""
        options = msgspec.structs.replace(request.options, lease=turn.lease, cache_salt=ask.caller.salt)
        trace = ask.record.trace
        traceparent = trace.header(sampled=True) if self.telemetry.keeps(trace) else None

        def generate(placement: Placement) -> Generation:
            watch = placement.target.watch
            return Generation(
                watch.triton,
                watch,
                self._background,
                request_id=request_id,
                prompt=request.prompt,
                options=options,
                accept_timeout_s=self.settings.accept_timeout_s,
                deadline_s=max(0.0, ask.deadline - time.monotonic()),
                traceparent=traceparent,
            )

        return Dispatch(self.admission, ask, generate)

    def labels(self, record: RequestRecord) -> EngineLabels:
        """The engine that ran a request, as metrics call it."""
        for target in self.targets:
            if target.name == record.target and target.load is not None:
                return EngineLabels.of(target.ensemble, target.load)
        return EngineLabels()

    def problems(self) -> list[str]:
        """Why the service is not ready; empty when it is. An ensemble is ready when one of its targets is."""
        found = ["draining"] if self.draining else []
        for ensemble in dict.fromkeys(self.models.values()):
            targets = [target for target in self.targets if target.ensemble == ensemble]
            if all(target.problem is not None for target in targets):
                found += [f"{target.watch.engine} ({target.name}): {target.problem}" for target in targets]
        return found

    @property
    def in_flight(self) -> int:
        """Requests inside the engines."""
        return sum(target.watch.in_flight for target in self.targets)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Refuse new requests, wait for those in flight, then end the ones that are left.

        Args:
            hurry: set it to stop waiting.
        """
        self._stopping = True
        self.refuse_new()
        log.info("draining: %d requests in flight", self.in_flight)
        idle = asyncio.create_task(self._idle())
        waits = {idle, asyncio.create_task(hurry.wait())}
        await asyncio.wait(waits, timeout=self.settings.drain_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        self.admission.end_waits()
        for target in self.targets:
            target.watch.stop_all(EngineUnavailable("The server is shutting down.", retry_after_s=5.0))
        await asyncio.wait({idle}, timeout=_FAREWELL_S)
        for wait in waits:
            wait.cancel()

    def refuse_new(self) -> None:
        """New requests and waiting ones get 503, until `resume`."""
        self.draining = True
        self.admission.drain()

    def resume(self) -> None:
        """Take requests again, unless the server is about to end."""
        if self._stopping:
            return
        self.draining = False
        self.admission.resume()

    def _reported(self, target: Target, controls: EngineControls) -> None:
        controls.reconcile(target)
        self.admission.wake()

    def _level_changed(self, ensemble: str, targets: Iterable[Target], before: int, level: int) -> None:
        targets = list(targets)
        fullest = max((target.capacity.kv_fraction for target in targets), default=0.0)
        events.memory_pressure(ensemble, before, level, fullest)
        self._relief.level_changed(ensemble, targets, before, level)

    async def _idle(self) -> None:
        for target in self.targets:
            await target.watch.idle.wait()  # no new request can come while the service drains
        while self.telemetry.in_flight or any(t.capacity.in_flight for t in self.targets):  # noqa: ASYNC110 - on their way
            await asyncio.sleep(_ON_THEIR_WAY_S)


def _booking(body: bytes, caller: Caller) -> bytes:
    return hashlib.blake2b(body, key=caller.name.encode(), digest_size=16).digest()
