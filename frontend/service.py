"""What all requests share: the connection to Triton, the engines behind it, and whether it is draining."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Self

from frontend.background import BackgroundTasks
from frontend.chat_request import Chat
from frontend.engine_watch import EngineWatch
from frontend.generation import Generation
from frontend.triton import Triton
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ConfigurationError, EngineUnavailable, ModelNotFound
from gpt_oss_triton.wire import ENGINE_OF

log = logging.getLogger(__name__)

_FAREWELL_S = 3.0  # for cancels on their way and for error events to be written


def check_models(settings: FrontendSettings) -> None:
    """Raises ConfigurationError when a model has no engine."""
    for model, ensemble in settings.models.items():
        if ensemble not in ENGINE_OF:
            known = ", ".join(ENGINE_OF)
            raise ConfigurationError(
                f"models: {model!r} is {ensemble!r} in Triton, which is none of: {known}."
            )


class Service:
    """Made by `running`.

    Attributes:
        models: model id at the API -> engine; ids may share one.
        created: Unix seconds, what the API calls a model's creation.
        draining: no new completions; those in flight go on.
    """

    def __init__(self, settings: FrontendSettings, triton: Triton) -> None:
        self.settings = settings
        self.created = int(time.time())
        self.draining = False
        self._triton = triton
        self._background = BackgroundTasks()
        watches = {
            ensemble: EngineWatch(triton, ensemble, ENGINE_OF[ensemble], settings)
            for ensemble in settings.models.values()
        }
        self.engines = list(watches.values())
        self.models = {model: watches[ensemble] for model, ensemble in settings.models.items()}

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: FrontendSettings) -> AsyncIterator[Self]:
        """A service whose engines are watched."""
        key = settings.triton_control_key
        triton = Triton(settings.triton_url, key.get_secret_value() if key is not None else None)
        service = cls(settings, triton)
        watchers = [asyncio.create_task(engine.run(), name=engine.engine) for engine in service.engines]
        try:
            yield service
        finally:
            await service._background.finish(_FAREWELL_S)
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await triton.close()

    def resolve(self, model: str) -> EngineWatch:
        """The engine that serves a model id. Raises ModelNotFound."""
        try:
            return self.models[model]
        except KeyError:
            known = ", ".join(self.models)
            raise ModelNotFound(
                f"There is no model {model[:64]!r}; served are: {known}.", param="model"
            ) from None

    def generation(self, target: EngineWatch, request_id: str, chat: Chat) -> Generation:
        """A generation to enter. Raises EngineUnavailable while draining."""
        if self.draining:
            raise EngineUnavailable("The server is draining.", retry_after_s=5.0)
        return Generation(
            self._triton,
            target,
            self._background,
            request_id=request_id,
            prompt=chat.prompt,
            options=chat.options,
            accept_timeout_s=self.settings.accept_timeout_s,
            deadline_s=self.settings.request_timeout_s,
        )

    def problems(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        found = ["draining"] if self.draining else []
        return found + [f"{e.engine}: {e.problem}" for e in self.engines if e.problem is not None]

    @property
    def in_flight(self) -> int:
        return sum(engine.in_flight for engine in self.engines)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Refuse new requests, wait for those in flight, then end the ones that are left.

        Args:
            hurry: set it to stop waiting.
        """
        self.draining = True
        log.info("draining: %d requests in flight", self.in_flight)
        idle = asyncio.create_task(self._idle())
        waits = {idle, asyncio.create_task(hurry.wait())}
        await asyncio.wait(waits, timeout=self.settings.drain_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for engine in self.engines:
            engine.stop_all(EngineUnavailable("The server is shutting down.", retry_after_s=5.0))
        await asyncio.wait({idle}, timeout=_FAREWELL_S)
        for wait in waits:
            wait.cancel()

    async def _idle(self) -> None:
        for engine in self.engines:
            await engine.idle.wait()  # no new request can come while the service drains
