"""How a conversation is read for routing: the order of its messages, and what names it over its turns."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from typing import Self

import msgspec

from gpt_oss_triton.harmony.normalize import normalize_text
from gpt_oss_triton.wire import Message, PromptRequest, encode

_NORMALIZED_CHARS = 1024  # at either end of the instructions; normalizing more would hold up other requests
_END = b"\xff"  # in no UTF-8 text


def split(messages: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    """The instructions, which are rendered first wherever they stand, and the turns."""
    instructions: list[Message] = []
    turns: list[Message] = []
    for message in messages:
        (instructions if message.role in ("system", "developer") else turns).append(message)
    return instructions, turns


def schemas(prompt: PromptRequest) -> bytes:
    """What the prompt says of functions and of the answer's form, encoded."""
    described = (*prompt.tools, prompt.response_format)
    return b"".join(encode(schema) for schema in described if schema is not None)


class Conversation:
    """The name of a conversation: changes with each turn, and not with what only looks like a change.

    Instructions count in their normalized form, because applications like to put the time into them, at
    the beginning or at the end. Turns count without the white space around them, which clients like to strip,
    and arguments of calls as the JSON that they are, which clients like to write anew.
    """

    def __init__(self, namespace: bytes, instructions: Iterable[Message]) -> None:
        self._digest = hashlib.blake2b(namespace, digest_size=16)
        text = "\n\n".join(message.content for message in instructions)
        begin, end = text, ""
        if len(text) > 2 * _NORMALIZED_CHARS:
            begin, end = text[:_NORMALIZED_CHARS], text[-_NORMALIZED_CHARS:]
            self._add(text[_NORMALIZED_CHARS:-_NORMALIZED_CHARS])
        self._add(normalize_text(begin), normalize_text(end))

    def add(self, turn: Message) -> None:
        calls = (text for call in turn.tool_calls for text in (call.name, _rewritten(call.arguments)))
        self._add(turn.role, turn.name or "", turn.content.strip(), *calls)

    def copy(self) -> Self:
        twin = copy.copy(self)
        twin._digest = self._digest.copy()
        return twin

    @property
    def key(self) -> bytes:
        return self._digest.digest()

    def _add(self, *texts: str) -> None:
        for text in texts:
            self._digest.update(text.encode() + _END)


def _rewritten(arguments: str) -> str:
    """JSON in one way of writing it; what is none as it stands."""
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments)).decode()
    except (msgspec.MsgspecError, RecursionError):
        return arguments.strip()
