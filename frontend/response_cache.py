"""Whole answers, kept for those who ask exactly the same again. Off unless it is configured.

Only greedy answers (temperature 0) are kept. A seed promises a repeatable answer as well, but only on one
engine and in one batch layout; who sets it next to a temperature may want several samples, and an answer
from here would be the same one each time. The key is exact and the caller's own: never a normalized key.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from cachetools import TTLCache

from frontend.triton import Answer
from gpt_oss_triton.wire import Finished, GenerationOptions, PromptRequest

_MAX_BYTES = 64 * 2**20
_OVERHEAD_BYTES = 1024  # of an answer's records


@dataclass(frozen=True, slots=True)
class _Kept:
    token_ids: array[int]
    finished: Finished


class ResponseCache:
    """Bounded in entries, bytes and age; the least recently used one goes first.

    Args:
        entries: 0 switches it off.
        ttl_s: seconds after which an answer is computed anew.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        entries: int,
        ttl_s: float,
        max_bytes: int = _MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._kept: TTLCache[bytes, _Kept] = TTLCache(max_bytes, ttl_s, clock, _size)
        self._hits = 0
        self._misses = 0

    def key(
        self, salt: str, ensemble: str, fingerprint: str, prompt: PromptRequest, options: GenerationOptions
    ) -> bytes | None:
        """Names everything that an answer depends on; None for a request whose answer is not kept. Log-probabilities
        are not kept, so neither are the answers that need them.

        Args:
            salt: the caller's.
            fingerprint: of the engine and its checkpoint.
            options: as they go to the engine; its lease makes no difference.
        """
        if self._entries == 0 or options.temperature != 0 or options.logprobs is not None:
            return None
        exact = [salt, ensemble, fingerprint, prompt, msgspec.structs.replace(options, lease=None)]
        return hashlib.sha256(msgspec.json.encode(exact)).digest()

    def replay(self, key: bytes) -> AsyncIterator[Answer] | None:
        """The answer as an engine would give it, all at once; None when it is not here."""
        kept = self._kept.get(key)
        if kept is None:
            self._misses += 1
            return None
        self._hits += 1
        return _replay(kept)

    async def record(self, key: bytes, answers: AsyncIterable[Answer]) -> AsyncIterator[Answer]:
        """The same answers; kept when they are complete."""
        token_ids = array("i")
        async for answer in answers:
            token_ids.extend(answer.token_ids)
            if isinstance(answer.event, Finished):
                self._keep(key, token_ids, answer.event)
            yield answer

    def stats(self) -> dict[str, Any]:
        self._kept.expire()
        return {
            "entries": len(self._kept),
            "bytes": int(self._kept.currsize),
            "hits": self._hits,
            "misses": self._misses,
        }

    def _keep(self, key: bytes, token_ids: array[int], finished: Finished) -> None:
        # How it was computed is true of that one request only.
        kept = _Kept(
            token_ids,
            Finished(
                finished.finish_reason,
                finished.prompt_tokens,
                finished.completion_tokens,
                cached_tokens=finished.prompt_tokens,
                stop=finished.stop,
            ),
        )
        self._kept.pop(key, None)
        if _size(kept) > self._kept.maxsize:
            return
        self._kept.expire()
        while len(self._kept) >= self._entries:
            self._kept.popitem()
        self._kept[key] = kept


def _size(kept: _Kept) -> int:
    return kept.token_ids.itemsize * len(kept.token_ids) + _OVERHEAD_BYTES


async def _replay(kept: _Kept) -> AsyncIterator[Answer]:
    yield Answer(kept.token_ids.tolist(), kept.finished)
