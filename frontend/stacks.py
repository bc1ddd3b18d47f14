"""Where every thread and every task is right now: names and positions, and no values."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from types import FrameType
from typing import Any

_MAX_DEPTH = 60
_MAX_STACKS = 200  # different ones
_MAX_NAMES = 5  # of the tasks that are at the same place


def thread_stacks() -> str:
    """One paragraph for each thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    paragraphs = []
    for ident, frame in sys._current_frames().items():
        lines = [_position(f) for f in _outwards(frame)][::-1]
        paragraphs.append("\n  ".join([f"thread {names.get(ident, ident)}", *lines]))
    return "\n\n".join(paragraphs[:_MAX_STACKS])


def task_stacks() -> str:
    """One paragraph for all tasks that are at the same place. Call it in the event loop."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for task in asyncio.all_tasks():
        places[tuple(_position(f) for f in _inwards(task.get_coro()))].append(task.get_name())
    paragraphs = []
    for lines, names in sorted(places.items(), key=lambda place: -len(place[1]))[:_MAX_STACKS]:
        some = ", ".join(sorted(names)[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        count = "1 task" if len(names) == 1 else f"{len(names)} tasks"
        paragraphs.append("\n  ".join([f"{count}: {some}", *lines]))
    return "\n\n".join(paragraphs)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _inwards(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine and of those that it awaits, as far as Python tells."""
    for _ in range(_MAX_DEPTH):
        frame = _attribute(awaitable, "cr_frame", "ag_frame", "gi_frame")
        if frame is None:
            return
        yield frame
        awaitable = _attribute(awaitable, "cr_await", "ag_await", "gi_yieldfrom")


def _attribute(owner: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(owner, name, None)) is not None), None)


def _position(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
