"""Which targets have computed which beginnings of conversations, and so hold them in their KV caches.

A prompt is cut into points: after each message, and inside of long ones every two kilobytes. The
hash of a point covers everything before it in the order in which `harmony.render` puts it, so equal hashes
mean equal tokens so far. The text is hashed as it is, not in its normalized form: a cache shares a prefix
only up to the first token that differs, and the points before a timestamp find exactly that much. (Sessions
do forgive a new timestamp, see `conversation.py`.)
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cachetools import LRUCache

from frontend.routing.conversation import schemas, split
from gpt_oss_triton.wire import PromptRequest

Point = tuple[int, int]  # hash, tokens of the prompt up to there
Life = tuple[int, float]  # pid and start of an engine: its cache does not outlive it

MAX_POINTS = 64
_FIRST_POINTS = 16  # kept of a longer conversation, to find what others share with it; the rest are its last
_PIECE_BYTES = 2048
_HEADER_BYTES = 16  # what the tokens around a message weigh
_END = b"\xff"  # in no UTF-8 text


def prefix_points(prompt: PromptRequest, salt: str, prompt_tokens: int) -> list[Point]:
    """A prompt's points, the shortest first; the last one is the whole prompt.

    Args:
        salt: of the caller; nobody shares a prefix with somebody else's.
        prompt_tokens: estimate for the whole; the points get their part of it by size.
    """
    digest = hashlib.blake2b(f"{salt}\0{prompt.reasoning_effort}".encode(), digest_size=8)
    marks: list[tuple[bytes, int]] = []
    size = 0
    for header, content in _parts(prompt):
        digest.update(header.encode() + _END)
        size += _HEADER_BYTES
        text = memoryview(content)
        for start in range(0, len(text), _PIECE_BYTES):
            piece = text[start : start + _PIECE_BYTES]
            digest.update(piece)
            size += len(piece)
            if len(piece) == _PIECE_BYTES:
                marks.append((digest.copy().digest(), size))
        digest.update(_END)
        marks.append((digest.copy().digest(), size))
    if len(marks) > MAX_POINTS:
        marks[_FIRST_POINTS : _FIRST_POINTS - MAX_POINTS] = []
    return [(int.from_bytes(mark), prompt_tokens * at // size) for mark, at in marks]


def _parts(prompt: PromptRequest) -> Iterator[tuple[str, bytes]]:
    """What is rendered, in order: each part's header, and its content."""
    if prompt.token_ids is not None:
        yield "ids", array("i", prompt.token_ids).tobytes()
        return
    if prompt.text is not None:
        yield "text", prompt.text.encode()
        return
    instructions, turns = split(prompt.messages)
    for message in instructions:
        yield f"{message.role}\0{message.name or ''}", message.content.encode()
    if described := schemas(prompt):
        yield "schemas", described
    for message in turns:
        yield f"{message.role}\0{message.name or ''}", (message.content or message.reasoning or "").encode()
        for call in message.tool_calls:
            yield f"call\0{call.name}", call.arguments.encode()


class Match(NamedTuple):
    """What a target is expected to hold of a prompt.

    Attributes:
        tokens: up to the longest point.
        uses: prompts that were sent there with that point in them.
    """

    tokens: int
    uses: int


class _Entry(NamedTuple):
    life: Life
    uses: int


class PrefixIndex:
    """Bounded; the least recently matched point of a target goes first.

    Args:
        entries: points held at most, all targets together.
    """

    def __init__(self, entries: int) -> None:
        self._entries: LRUCache[tuple[int, str], _Entry] = LRUCache(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, points: Sequence[Point], target: str, life: Life) -> None:
        """A prompt is sent to this life of the target, which is about to compute these points."""
        for hashed, _ in reversed(points):  # the shortest last: it is worth most, because most share it
            entry = self._entries.get((hashed, target))
            uses = entry.uses if entry is not None and entry.life == life else 0
            self._entries[hashed, target] = _Entry(life, uses + 1)

    def find(self, points: Sequence[Point], target: str, life: Life) -> Match:
        """The longest point that the target holds; no tokens if there is none."""
        for hashed, tokens in reversed(points):
            entry = self._entries.get((hashed, target))
            if entry is not None and entry.life == life:
                return Match(tokens, entry.uses)
        return Match(0, 0)
