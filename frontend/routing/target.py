"""Targets: the engines that requests can be routed to, on one Triton server or several."""

from __future__ import annotations

from collections.abc import Callable

from frontend.admission.capacity import Capacity
from frontend.engine_watch import EngineWatch
from frontend.routing.breaker import Breaker
from frontend.routing.prefix_index import Life
from frontend.triton import Triton
from gpt_oss_triton.config import FrontendSettings, TargetSettings
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.wire import ENGINE_OF, Load

LOCAL = "local"


class Target:
    """Attributes:
    name: unique among all targets.
    gpus: that the engine spreads over.
    prefill_tokens_sent: prompt tokens that were sent there since its last report.
    prefill_tokens_per_s: as last measured; None before that.
    on_report: called when a report has been taken in, which may have made room.
    """

    def __init__(
        self, name: str, gpus: int, watch: EngineWatch, breaker: Breaker, capacity: Capacity
    ) -> None:
        self.name = name
        self.ensemble = watch.ensemble
        self.gpus = gpus
        self.watch = watch
        self.breaker = breaker
        self.capacity = capacity
        self.prefill_tokens_sent = 0
        self.prefill_tokens_per_s: float | None = None
        self.on_report: Callable[[], None] = lambda: None
        watch.on_report = self._report

    @property
    def load(self) -> Load | None:
        """The newest report; None while the engine is lost."""
        return self.watch.load

    @property
    def life(self) -> Life | None:
        """Names this life of the engine; None while it is lost."""
        return None if self.load is None else (self.load.pid, self.load.started)

    @property
    def problem(self) -> str | None:
        """Why no request should go there now; None when there is no reason."""
        if self.watch.problem is not None:
            return self.watch.problem
        return None if self.breaker.allows else "its requests failed one after another"

    @property
    def is_merely_silent(self) -> bool:
        """Slow, or hung, or cut off: the watch has yet to find out."""
        return self.load is not None and self.watch.problem is not None and self.breaker.allows

    def _report(self, load: Load) -> None:
        self.capacity.report(load)
        self.prefill_tokens_sent = 0
        self.prefill_tokens_per_s = load.prefill_tokens_per_s or self.prefill_tokens_per_s
        self.on_report()


def check_targets(settings: FrontendSettings) -> None:
    """Raises ConfigurationError when a target is unclear, or a model has none."""
    served = set(settings.models.values())
    seen: set[tuple[str, str]] = set()
    for server in settings.targets:
        for ensemble in _ensembles(server, settings):
            if ensemble not in served:
                known = ", ".join(sorted(served))
                raise ConfigurationError(f"targets: {server.name} has {ensemble!r}; models has only {known}.")
            for place in (server.name, server.url):
                if (place, ensemble) in seen:
                    raise ConfigurationError(f"targets: {place} has {ensemble} twice.")
                seen.add((place, ensemble))
    if settings.targets and (missing := served - {ensemble for _, ensemble in seen}):
        raise ConfigurationError(f"targets: none has {', '.join(sorted(missing))}.")


def make_targets(settings: FrontendSettings) -> list[Target]:
    """Targets that are not yet watched. They share one connection for each URL, which the caller closes.

    Call it in the event loop that they are used in."""
    key = settings.triton_control_key
    connections: dict[str, Triton] = {}
    made = []
    for server in settings.targets or [TargetSettings(url=settings.triton_url, name=LOCAL)]:
        if server.url not in connections:
            connections[server.url] = Triton(server.url, key.get_secret_value() if key is not None else None)
        for ensemble in _ensembles(server, settings):
            name = _name(server, ensemble, settings)
            engine = ENGINE_OF[ensemble]
            watch = EngineWatch(connections[server.url], ensemble, engine, settings, name)
            breaker = Breaker(settings.breaker_failures, settings.breaker_open_s)
            made.append(Target(name, server.gpus, watch, breaker, Capacity()))
    return made


def _ensembles(server: TargetSettings, settings: FrontendSettings) -> list[str]:
    every = list(dict.fromkeys(settings.models.values()))
    return every if server.ensembles is None else list(dict.fromkeys(server.ensembles))


def _name(server: TargetSettings, ensemble: str, settings: FrontendSettings) -> str:
    """The server's, with the ensemble where one name stands for several."""
    named = [
        e for s in settings.targets or [server] if s.name == server.name for e in _ensembles(s, settings)
    ]
    return server.name if len(named) == 1 else f"{server.name}/{ensemble}"
