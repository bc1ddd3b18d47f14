"""An answer's parts as output items, and the events that tell of each change: one path, streamed or not."""

from __future__ import annotations

import uuid
from typing import Any

from frontend.call_ids import call_id
from frontend.chat_reply import token_logprobs
from frontend.content_scores import ScoredDelta
from gpt_oss_triton.harmony.answer import AnswerDelta

Event = dict[str, Any]  # without its sequence number
Item = dict[str, Any]

_SEPARATOR = "\n\n"  # with which the answer's text joins messages of a kind


class Output:
    """The items of one response."""

    def __init__(self, response_id: str) -> None:
        self._response_id = response_id
        self._items: list[Item] = []
        self._open: _TextItem | _CallItem | None = None
        self._kind: tuple[str, int | None] | None = None
        self._kinds: set[str] = set()

    @property
    def items(self) -> list[Item]:
        """As they are now; the last one may be in progress."""
        if self._open is not None:
            self._open.gather()
        return self._items

    def add(self, delta: AnswerDelta) -> list[Event]:
        """What the delta changes. Another kind of text, or another call, ends the item before."""
        events: list[Event] = []
        text = delta.text
        if (delta.kind, delta.call) != self._kind:
            events += self.close(complete=True)
            self._kind = (delta.kind, delta.call)
            if delta.kind in self._kinds and delta.kind != "tool_call":
                text = text.removeprefix(_SEPARATOR)  # an item of its own needs none
            self._kinds.add(delta.kind)
            events += self._begin(delta)
        if self._open is not None and text:
            events.append(self._open.add(text, delta))
        return events

    def close(self, *, complete: bool) -> list[Event]:
        """The last item ends; incomplete where the answer was cut."""
        item, self._open, self._kind = self._open, None, None
        if item is None:
            return []
        item.record["status"] = "completed" if complete else "incomplete"
        events = item.close()
        done = {"type": "response.output_item.done", "output_index": item.index, "item": dict(item.record)}
        return [*events, done]

    def _begin(self, delta: AnswerDelta) -> list[Event]:
        index = len(self._items)
        item: _TextItem | _CallItem
        if delta.kind == "tool_call":
            item = _CallItem(index, delta.name or "", call_id(self._response_id, 0, delta.call or 0))
        else:
            item = _TextItem(index, reasoning=delta.kind == "reasoning")
        self._open = item
        self._items.append(item.record)
        added = {"type": "response.output_item.added", "output_index": index, "item": item.snapshot()}
        return [added, *item.begin()]


class _TextItem:
    """A message or a reasoning, each of one part.

    Attributes:
        record: the item.
    """

    def __init__(self, index: int, *, reasoning: bool) -> None:
        self.index = index
        self._event = "response.reasoning_text" if reasoning else "response.output_text"
        self._texts: list[str] = []
        self._part: dict[str, Any]
        if reasoning:
            self._part = {"type": "reasoning_text", "text": ""}
            self.record: Item = {"id": _new_id("rs"), "type": "reasoning", "summary": []}
        else:
            self._part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self.record = {"id": _new_id("msg"), "type": "message", "role": "assistant"}
        self.record |= {"status": "in_progress", "content": [self._part]}
        self._place = {"item_id": self.record["id"], "output_index": index, "content_index": 0}
        self._scored = not reasoning

    def snapshot(self) -> Item:
        return {**self.record, "content": []}

    def begin(self) -> list[Event]:
        return [{"type": "response.content_part.added", **self._place, "part": dict(self._part)}]

    def add(self, text: str, delta: AnswerDelta) -> Event:
        self._texts.append(text)
        event: Event = {"type": f"{self._event}.delta", **self._place, "delta": text}
        if self._scored:
            event["logprobs"] = token_logprobs(delta.scores) if isinstance(delta, ScoredDelta) else []
            self._part["logprobs"] += event["logprobs"]
        return event

    def gather(self) -> str:
        """The text so far, which the record then has as well."""
        text = self._part["text"] = "".join(self._texts)
        return text

    def close(self) -> list[Event]:
        text = self.gather()
        done: Event = {"type": f"{self._event}.done", **self._place, "text": text}
        if self._scored:
            done["logprobs"] = self._part["logprobs"]
        return [done, {"type": "response.content_part.done", **self._place, "part": self._part}]


class _CallItem:
    """A call of a function; its record as of `_TextItem`."""

    def __init__(self, index: int, name: str, call_id: str) -> None:
        self.index = index
        self._arguments: list[str] = []
        self.record: Item = {
            "id": _new_id("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": call_id,
            "name": name,
            "arguments": "",
        }
        self._place = {"item_id": self.record["id"], "output_index": index}

    def snapshot(self) -> Item:
        return dict(self.record)

    def begin(self) -> list[Event]:
        return []

    def add(self, text: str, delta: AnswerDelta) -> Event:
        self._arguments.append(text)
        return {"type": "response.function_call_arguments.delta", **self._place, "delta": text}

    def gather(self) -> str:
        """The arguments so far, which the record then has as well."""
        arguments = self.record["arguments"] = "".join(self._arguments)
        return arguments

    def close(self) -> list[Event]:
        arguments = self.gather()
        done = {"type": "response.function_call_arguments.done", **self._place}
        return [{**done, "name": self.record["name"], "arguments": arguments}]


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
