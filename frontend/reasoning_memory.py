"""What the model thought before its calls, for clients that do not send it back.

While a turn runs, over its calls and their results, the format wants the model to read what it thought so far; and
where that is missing the prompt is another one than was computed, from the call on. But most clients send the call
and its result alone. So a call's reasoning is kept under the call's id, which every client sends back.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping

import msgspec
from cachetools import TTLCache

from frontend.caller import Caller
from frontend.chat_request import Chat

MAX_BYTES = 64 * 2**20
_OVERHEAD_BYTES = 256  # of an entry


class ReasoningMemory:
    """Bounded in bytes and in time without use; the least recently used one goes first. Each caller gets its own only.

    Args:
        ttl_s: since the last use; 0 switches it off.
        clock: monotonic seconds.
    """

    def __init__(
        self, ttl_s: float, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept: TTLCache[bytes, str] | None = (
            TTLCache(max_bytes, ttl_s, clock, _size) if ttl_s > 0 else None
        )

    def keep(self, caller: Caller, call_id: str, reasoning: str) -> None:
        """Of the turn whose first call has this id."""
        if self._kept is not None and reasoning and _size(reasoning) <= self._kept.maxsize:
            self._kept[_key(caller, call_id)] = reasoning

    def recall(self, caller: Caller, chat: Chat) -> Chat:
        """The chat with the reasoning that its caller left out, as far as it is known."""
        return explained(chat, self.known(caller, chat))

    def known(self, caller: Caller, chat: Chat) -> dict[str, str]:
        """The reasoning that its caller left out, as far as it is known, by the call's id."""
        found: dict[str, str] = {}
        if self._kept is None:
            return found
        for call_id in chat.unexplained_calls.values():
            key = _key(caller, call_id)
            if (reasoning := self._kept.get(key)) is not None:
                found[call_id] = self._kept[key] = reasoning  # it is used: its time begins anew
        return found


def explained(chat: Chat, known: Mapping[str, str]) -> Chat:
    """The chat with the reasoning that it lacks and that is known."""
    if not known:
        return chat
    messages = list(chat.prompt.messages)
    for index, call_id in chat.unexplained_calls.items():
        if call_id in known:
            messages[index] = msgspec.structs.replace(messages[index], reasoning=known[call_id])
    prompt = msgspec.structs.replace(chat.prompt, messages=messages)
    return msgspec.structs.replace(chat, prompt=prompt)


def _key(caller: Caller, call_id: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16, key=caller.salt.encode())
    for part in (caller.name, call_id):
        digest.update(part.encode() + b"\xff")  # in no UTF-8 text
    return digest.digest()


def _size(reasoning: str) -> int:
    return sys.getsizeof(reasoning) + _OVERHEAD_BYTES
