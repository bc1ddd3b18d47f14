"""Prompts that were rendered lately, by an exact key.

Bounded three ways: entries, tokens held in all (4 bytes each), and age. Age counts from rendering; a hit
does not renew it. A prompt of more tokens than the whole budget is rendered each time.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cachetools import LRUCache, TTLCache

MissReason = Literal["new", "expired", "evicted", "disabled"]

_MAX_TOKENS = 4_000_000  # 16 MB


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """Everything that is computed from a prompt's records alone.

    Attributes:
        token_ids: int32.
        prompt_hash, normalized_key: hex SHA-256, see `normalize.py`.
    """

    token_ids: array[int]
    prompt_hash: str
    normalized_key: str


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Since start, but for `entries` and `tokens`, which are held now."""

    hits: int
    misses: dict[MissReason, int]
    entries: int
    tokens: int


class RenderedPromptCache:
    """Least recently used goes first. Thread-safe; two threads that miss the same key both render.

    Args:
        entries: prompts held at most; 0 disables the cache.
        ttl_s: seconds after which an entry is rendered anew.
        max_tokens: tokens held at most, all entries together.
        timer: monotonic seconds.
    """

    def __init__(
        self,
        entries: int = 500,
        ttl_s: float = 600.0,
        max_tokens: int = _MAX_TOKENS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._rendered: TTLCache[str, RenderedPrompt] = TTLCache(
            max_tokens, ttl_s, timer, getsizeof=lambda rendered: len(rendered.token_ids)
        )
        # Why a key that is gone went: kept for twice as many keys as the cache has entries.
        self._gone: LRUCache[str, MissReason] = LRUCache(max(1, 2 * entries))
        self._hits = 0
        self._misses: Counter[MissReason] = Counter()

    def get_or_render(
        self, key: str, render: Callable[[], RenderedPrompt]
    ) -> tuple[RenderedPrompt, MissReason | None]:
        """The prompt, and why it had to be rendered (None: it had not). What `render` raises passes
        through, and nothing is stored."""
        with self._lock:
            held, reason = self._look_up(key)
        if held is not None:
            return held, None
        rendered = render()
        if self._entries > 0:
            with self._lock:
                self._store(key, rendered)
        return rendered, reason

    def stats(self) -> CacheStats:
        with self._lock:
            self._expire()
            return CacheStats(
                self._hits, dict(self._misses), len(self._rendered), int(self._rendered.currsize)
            )

    def _look_up(self, key: str) -> tuple[RenderedPrompt | None, MissReason]:
        self._expire()
        if (held := self._rendered.get(key)) is not None:
            self._hits += 1
            return held, "new"
        reason = self._gone.pop(key, "new") if self._entries > 0 else "disabled"
        self._misses[reason] += 1
        return None, reason

    def _store(self, key: str, rendered: RenderedPrompt) -> None:
        self._rendered.pop(key, None)
        size = len(rendered.token_ids)
        if size > self._rendered.maxsize:
            self._gone[key] = "evicted"
            return
        self._expire()
        while len(self._rendered) >= self._entries or self._rendered.currsize + size > self._rendered.maxsize:
            self._gone[self._rendered.popitem()[0]] = "evicted"
        self._rendered[key] = rendered

    def _expire(self) -> None:
        for key, _ in self._rendered.expire():
            self._gone[key] = "expired"
