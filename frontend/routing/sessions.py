"""Sessions: conversations that are likely to go on, each with a home target and a lease on its KV blocks.

A session is named by the caller's header, else by `prompt_cache_key`, else it is recognised: when an answer
has ended, the name of the conversation with that answer in it is remembered, and a request that begins with
it is the next turn. So what is not named becomes a session with its second turn: most first turns have none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from cachetools import TTLCache

from frontend.caller import Caller
from frontend.routing.conversation import Conversation, split
from frontend.routing.prefix_index import Life
from gpt_oss_triton.wire import Lease, Message, PromptRequest, ToolCall

By = Literal["header", "prompt_cache_key", "prefix"]
EndReason = Literal["idle", "evicted", "pressure"]


@dataclass(frozen=True, slots=True)
class Home:
    """Where a session's last turn ran, and the tokens of its prompt, which are cached there."""

    target: str
    life: Life
    prompt_tokens: int


@dataclass(slots=True)
class _Session:
    used: float
    turns: int = 0  # in flight
    home: Home | None = None


class Turn:
    """One request's part in a session; enter it for as long as the request runs.

    Attributes:
        session: opaque id; None while nothing says that the conversation goes on.
        by: what the session was known by.
        lease: for the engine.
    """

    def __init__(
        self, sessions: Sessions, session: str | None, by: By | None, conversation: Conversation | None
    ) -> None:
        self.session = session
        self.by = by
        self.lease = None if session is None else Lease(session, sessions.idle_s)
        self._sessions = sessions
        self._conversation = conversation
        self._held: _Session | None = None

    def __enter__(self) -> Self:
        if self.session is not None:
            self._held = self._sessions._enter(self.session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.session is not None and self._held is not None:
            self._sessions._leave(self.session, self._held)

    def answered(self, content: str, calls: Sequence[ToolCall] = ()) -> None:
        """The answer is complete: a request that begins with it is the next turn."""
        if self._conversation is not None:
            self._conversation.add(Message("assistant", content, tool_calls=[*calls]))
            self._sessions._expect(self._conversation.key, self.session)


class Sessions:
    """Bounded; the least recently used one goes first.

    Args:
        max_sessions: also of the conversations that may become sessions.
        idle_s: seconds without a request after which a session ends.
        clock: monotonic seconds.
    """

    def __init__(self, max_sessions: int, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.idle_s = idle_s
        self._max_sessions = max_sessions
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # least recently used first
        self._expected: TTLCache[bytes, str] = TTLCache(max_sessions, idle_s, clock)
        self._created = 0
        self._returned = 0
        self._ended: Counter[EndReason] = Counter()

    def turn(
        self,
        caller: Caller,
        ensemble: str,
        prompt: PromptRequest,
        header: str | None = None,
        prompt_cache_key: str | None = None,
    ) -> Turn:
        """The turn that a request is.

        Args:
            header, prompt_cache_key: the caller's own name of the session, of any length; "" is none.
        """
        if header:
            return Turn(self, _id(caller, ensemble, "header", header), "header", None)
        if prompt_cache_key:
            session = _id(caller, ensemble, "prompt_cache_key", prompt_cache_key)
            return Turn(self, session, "prompt_cache_key", None)
        instructions, turns = split(prompt.messages)
        conversation = Conversation(_digest(caller.name, caller.salt, ensemble), instructions)
        history: Conversation | None = None
        for message in turns:
            conversation.add(message)
            if message.role == "assistant":
                history = conversation.copy()
        known = None if history is None else self._expected.get(history.key)
        return Turn(self, known, None if known is None else "prefix", conversation)

    def home(self, session: str) -> Home | None:
        held = self._sessions.get(session)
        return None if held is None else held.home

    def settle(self, session: str, home: Home) -> None:
        """The session's turn is about to run there. A session begins with the first one: who is refused a turn
        pushes no session of others out."""
        if (held := self._sessions.get(session)) is None:
            return
        if held.home is None:
            self._created += 1
        held.home = home
        while len(self._sessions) > self._max_sessions:
            self.end([next(iter(self._sessions))], "evicted")

    def oldest_idle(self, count: int, target: str) -> list[str]:
        """Up to `count` sessions whose home is `target` and which have no request in flight, oldest first."""
        found: list[str] = []
        for session, held in self._sessions.items():
            if len(found) == count:
                break
            if not held.turns and held.home is not None and held.home.target == target:
                found.append(session)
        return found

    def end(self, sessions: Iterable[str], reason: EndReason) -> None:
        """End these sessions, those that are still there."""
        for session in sessions:
            if self._sessions.pop(session, None) is not None:
                self._ended[reason] += 1

    def sweep(self) -> None:
        """End the sessions that are idle for too long."""
        late = []
        for session, held in self._sessions.items():
            if held.turns:
                continue
            if not self._idle_too_long(held):
                break  # all others were used later
            late.append(session)
        self.end(late, "idle")

    async def run(self, every_s: float) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            self.sweep()

    def stats(self) -> dict[str, Any]:
        return {
            "active": len(self._sessions),
            "created_total": self._created,
            "returned_total": self._returned,
            "ended_total": dict(self._ended),
        }

    def _enter(self, session: str) -> _Session:
        held = self._sessions.get(session)
        if held is not None and not held.turns and self._idle_too_long(held):
            self.end([session], "idle")  # the sweep was yet to come
            held = None
        if held is None:
            held = self._sessions[session] = _Session(self._clock())
        else:
            self._returned += 1
        held.turns += 1
        self._touch(session, held)
        return held

    def _leave(self, session: str, held: _Session) -> None:
        held.turns -= 1
        if self._sessions.get(session) is not held:
            return  # it was ended meanwhile
        if held.home is None and not held.turns:
            del self._sessions[session]  # nobody took it
        else:
            self._touch(session, held)

    def _touch(self, session: str, held: _Session) -> None:
        held.used = self._clock()
        self._sessions.move_to_end(session)

    def _idle_too_long(self, held: _Session) -> bool:
        return self._clock() - held.used > self.idle_s

    def _expect(self, key: bytes, session: str | None) -> None:
        """Two conversations that were equal so far keep one name until they part."""
        self._expected[key] = session or self._expected.get(key) or secrets.token_hex(12)


def _id(caller: Caller, ensemble: str, by: By, name: str) -> str:
    return _digest(caller.name, caller.salt, ensemble, by, name).hex()


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).digest()
