"""A conversation as the corpus makes it, with what is right in its last answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.wire import ReasoningEffort, ResponseFormat, Tool


def compact_json(data: dict[str, Any]) -> str:
    """As the model writes it and functions return it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Call:
    """The model calls a function, and is told its result, of which a thought then says the gist."""

    analysis: str
    name: str
    arguments: dict[str, Any]
    result: str
    gist: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user says, and all that the model does about it."""

    user: str
    analysis: str
    final: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Episode:
    """
    Attributes:
        kind: what it exercises; see `mixture.KINDS`.
        has: words of which each must be in the last answer for it to be right.
        strange: whether names of functions and fields, and values, may be words that no program or user would choose.
        data: what the last answer must be as JSON; None when it is no JSON.
    """

    kind: str
    turns: tuple[Turn, ...]
    effort: ReasoningEffort
    has: tuple[str, ...] = ()
    data: dict[str, Any] | None = None
    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    response_format: ResponseFormat | None = None
    date: str | None = None
    strange: bool = False
