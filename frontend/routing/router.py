"""Which target a request goes to.

The score decides (`score.py`), with what each target is expected to hold of the prompt. A conversation stays
where it is at home until another target is better by a margin: later turns profit from staying, too. Targets
that are as good as each other share new conversations by rendezvous hashing: when one of them dies, its keys
alone are spread anew.

What many prompts have in common, such as an application's instructions, is no home. Each target computes it
once; if it drew all conversations to the first one, they would push each other out of that one's cache.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from frontend.routing.prefix_index import Match, PrefixIndex
from frontend.routing.score import score
from frontend.routing.sessions import Home, Sessions
from frontend.routing.target import Target
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import EngineUnavailable

if TYPE_CHECKING:
    from frontend.admission.ask import Ask

Trigger = Literal["large_prompt", "large_kv", "memory_pressure"]
Reason = Literal["only", "affinity", "session", "least_loaded", "hot_spot", "round_robin", "retry"] | Trigger

_INDEX_ENTRIES = 100_000  # about 35 MB
_PREFILL_TOKENS_PER_S = 2000.0  # before anything was measured
_HOME_MARGIN = 0.5  # of the score: half a second of prefill, or half a KV cache
_TIE = 0.05  # of the score
_COMMON_USES = 4  # a beginning that more prompts have had is worth computing everywhere
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    target: Target
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Candidate:
    target: Target
    cached_tokens: int  # of this conversation, as expected
    score: float


class Router:
    """Args:
    targets: of all ensembles.
    sessions: whose homes it keeps up to date.
    """

    def __init__(self, targets: Sequence[Target], settings: FrontendSettings, sessions: Sessions) -> None:
        self._targets = list(targets)
        self._settings = settings
        self._sessions = sessions
        self._prefixes = PrefixIndex(_INDEX_ENTRIES)
        self._decisions: dict[str, Counter[Reason]] = {target.name: Counter() for target in targets}
        self._last: dict[str, Target] = {}  # of each ensemble, for taking turns

    def choose(self, ask: Ask) -> Choice | None:
        """The target for a request, or None while all that could take it are full.

        Raises:
            EngineUnavailable: there is none that could.
        """
        able = self._able(ask)
        several = [target for target in able if target.gpus > 1]
        trigger = self._trigger(ask, able) if 0 < len(several) < len(able) else None
        pool = able if trigger is None else several
        if not any(target.capacity.fits(ask.estimate) for target in pool):
            return None
        choice = self._by_policy(ask, pool)
        if trigger is None and (relief := self._relief(ask, choice.target, several)):
            choice, trigger = self._by_policy(ask, relief), "memory_pressure"
        if ask.excluded:
            return Choice(choice.target, "retry")
        if trigger is not None:
            return Choice(choice.target, trigger)
        return Choice(choice.target, "only") if len(able) == 1 else choice

    def placed(self, ask: Ask, choice: Choice) -> None:
        """The request is sent there: remember what that target will hold."""
        target = choice.target
        self._decisions[target.name][choice.reason] += 1
        self._last[ask.ensemble] = target
        target.breaker.begin()
        target.prefill_tokens_sent += max(0, ask.estimate.prompt_tokens - self._match(ask, target).tokens)
        if (life := target.life) is not None:
            self._prefixes.add(ask.prefix, target.name, life)
            if ask.session is not None:
                self._sessions.settle(ask.session, Home(target.name, life, ask.estimate.prompt_tokens))

    def stats(self) -> dict[str, Any]:
        """JSON-ready. `route4_gpu_requests` counts what ran on several GPUs for whatever reason,
        `route4_triggers` what was sent there for its size."""
        placed = {name: reasons.total() for name, reasons in self._decisions.items()}
        reasons = sum(self._decisions.values(), Counter[Reason]())
        large = sum(placed[target.name] for target in self._targets if target.gpus > 1)
        total = sum(placed.values())
        return {
            "policy": self._settings.routing_policy,
            "decisions": {name: dict(counts) for name, counts in self._decisions.items()},
            "route4_gpu_requests": large,
            "route4_percentage": 100 * large / total if total else 0.0,
            "route4_triggers": {trigger: reasons[trigger] for trigger in get_args(Trigger)},
            "gpu_balance": {name: count / total if total else 0.0 for name, count in placed.items()},
            "prefix_entries": len(self._prefixes),
        }

    def _able(self, ask: Ask) -> list[Target]:
        """Targets that can run the request. Silent ones only where there are no others: a machine that is
        too busy to report is better than none."""
        targets = [t for t in self._targets if t.ensemble == ask.ensemble and t.name not in ask.excluded]
        able = [target for target in targets if target.problem is None]
        able = able or [target for target in targets if target.is_merely_silent]
        if not able:
            problems = "; ".join(f"{target.name}: {target.problem}" for target in targets) or "none is left"
            raise EngineUnavailable(
                f"No engine of {ask.ensemble} is ready: {problems}.", retry_after_s=_RETRY_AFTER_S
            )
        return able

    def _trigger(self, ask: Ask, able: list[Target]) -> Trigger | None:
        """Why the request should run on several GPUs, if it should."""
        if ask.estimate.prompt_tokens > self._settings.large_prompt_tokens:
            return "large_prompt"
        kv_bytes = max(
            ask.estimate.blocks(load.block_shape) * load.block_bytes
            for t in able
            if (load := t.load) is not None
        )
        return "large_kv" if kv_bytes > self._settings.large_kv_mb * 10**6 else None

    def _relief(self, ask: Ask, chosen: Target, several: list[Target]) -> list[Target]:
        """Targets of several GPUs that have more room than the chosen one, if that is nearly full."""
        fraction = chosen.capacity.kv_fraction
        if chosen.gpus > 1 or fraction <= self._settings.memory_pressure:
            return []
        return [t for t in several if t.capacity.kv_fraction < fraction and t.capacity.fits(ask.estimate)]

    def _by_policy(self, ask: Ask, pool: list[Target]) -> Choice:
        """One of `pool`, of which at least one has room."""
        if self._settings.routing_policy == "round_robin":
            return Choice(self._next_in_turn(ask, pool), "round_robin")
        return self._by_score(ask, pool)

    def _next_in_turn(self, ask: Ask, pool: list[Target]) -> Target:
        last = self._last.get(ask.ensemble)
        start = 0 if last is None else self._targets.index(last) + 1
        in_turn = self._targets[start:] + self._targets[:start]
        return next(t for t in in_turn if t in pool and t.capacity.fits(ask.estimate))

    def _by_score(self, ask: Ask, pool: list[Target]) -> Choice:
        candidates = self._candidates(ask, pool)
        fitting = [c for c in candidates if c.target.capacity.fits(ask.estimate)]
        lowest = min(candidate.score for candidate in fitting)
        home, reason = self._home(ask, candidates)
        if home is not None and home in fitting and home.score <= lowest + _HOME_MARGIN:
            return Choice(home.target, reason)
        near = [candidate.target for candidate in fitting if candidate.score <= lowest + _TIE]
        key = ask.session or (ask.prefix[-1][0] if ask.prefix else "")
        best = max(near, key=lambda target: _weight(key, target.name))
        return Choice(best, "least_loaded" if home is None else "hot_spot")

    def _candidates(self, ask: Ask, pool: list[Target]) -> list[_Candidate]:
        candidates = []
        for target in pool:
            if (load := target.load) is None:
                continue
            own, speed = self._own_tokens(ask, target), _prefill_speed(target, pool)
            candidates.append(_Candidate(target, own, score(target, load, ask.estimate, own, speed)))
        return candidates

    def _home(self, ask: Ask, candidates: list[_Candidate]) -> tuple[_Candidate | None, Reason]:
        """The candidate that should get the request unless it is a hot spot, and why: the session's home, else
        the one with the most of this conversation."""
        for candidate in candidates:
            if self._session_home(ask, candidate.target) is not None:
                return candidate, "session"
        most = max(candidate.cached_tokens for candidate in candidates)
        if most == 0:
            return None, "least_loaded"
        holders = [c for c in candidates if c.cached_tokens == most]
        return min(holders, key=lambda candidate: candidate.score), "affinity"

    def _own_tokens(self, ask: Ask, target: Target) -> int:
        """What the target is expected to hold of this conversation."""
        match = self._match(ask, target)
        if (
            home := self._session_home(ask, target)
        ) is not None:  # what the index has forgotten, the lease keeps
            return match.tokens or min(home.prompt_tokens, ask.estimate.prompt_tokens)
        return match.tokens if match.uses <= _COMMON_USES else 0

    def _session_home(self, ask: Ask, target: Target) -> Home | None:
        """The home of the request's session, if it is this target in this life."""
        home = None if ask.session is None else self._sessions.home(ask.session)
        return home if home is not None and (home.target, home.life) == (target.name, target.life) else None

    def _match(self, ask: Ask, target: Target) -> Match:
        """What the target is expected to hold of the prompt."""
        if (life := target.life) is None:
            return Match(0, 0)
        return self._prefixes.find(ask.prefix, target.name, life)


def _prefill_speed(target: Target, pool: list[Target]) -> float:
    """Tokens per second, the mean of all that have as many GPUs: what one of them has measured depends more on
    the prompts that it had than on what it could do, and would keep new ones away from it."""
    measured = [(t.gpus, t.prefill_tokens_per_s) for t in pool if t.prefill_tokens_per_s is not None]
    alike = [speed for gpus, speed in measured if gpus == target.gpus] or [speed for _, speed in measured]
    return sum(alike) / len(alike) if alike else _PREFILL_TOKENS_PER_S


def _weight(key: str | int, target: str) -> bytes:
    """Rendezvous hashing: a key belongs to the target that weighs most with it."""
    return hashlib.blake2b(f"{key}\0{target}".encode(), digest_size=8).digest()
