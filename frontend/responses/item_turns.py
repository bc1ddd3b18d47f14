"""Input items as the turns of a chat.

Items are flat where turns are nested: the reasoning, the text and the calls of one assistant's turn come one
after the other, and are one turn again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from frontend.chat_messages import (
    AssistantTurn,
    AudioPart,
    CalledFunction,
    DeveloperTurn,
    FilePart,
    FunctionCall,
    ImagePart,
    RefusalPart,
    SystemTurn,
    TextPart,
    ToolTurn,
    Turn,
    UserTurn,
)
from frontend.request_fields import invalid
from frontend.responses.items import (
    KINDS,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputAudio,
    InputContent,
    InputFile,
    InputImage,
    InputPart,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    Refusal,
)
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter


class Turns(Struct):
    """Attributes:
    places: where in the request each turn came from, for errors.
    """

    turns: list[Turn] = []
    places: list[str] = []

    def add(self, turn: Turn, place: str) -> None:
        self.turns.append(turn)
        self.places.append(place)


def read_items(given: str | Sequence[dict[str, Any]], path: str = "input") -> Turns:
    """The turns of a text, which is the user's, or of items.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `input[0].content`.
        UnsupportedParameter: an item of another kind, or of a function in a namespace.
    """
    read = _Reader()
    if isinstance(given, str):
        return Turns([UserTurn(given)], [path])
    for index, item in enumerate(given):
        read.add(_item(item, f"{path}[{index}]"), f"{path}[{index}]")
    return read.turns


def _item(item: dict[str, Any], path: str) -> Item:
    kind = item.get("type", "message" if "role" in item else None)
    if kind is None:
        raise InvalidRequest("An item needs a type.", param=f"{path}.type")
    if not isinstance(kind, str):
        raise InvalidRequest("The type of an item is a string.", param=f"{path}.type")
    if kind not in KINDS:
        raise UnsupportedParameter(f"Items of type {kind[:64]!r} are not supported.", param=f"{path}.type")
    try:
        read = msgspec.convert(item, KINDS[kind])
    except msgspec.ValidationError as error:
        raise invalid(str(error), KINDS[kind], path) from None
    if isinstance(read, FunctionCallItem | FunctionCallOutputItem) and read.namespace:
        raise UnsupportedParameter("Functions have no namespaces here.", param=f"{path}.namespace")
    return read


class _Reader:
    def __init__(self) -> None:
        self.turns = Turns()
        self._open: AssistantTurn | None = None  # the last turn, while items may be added to it

    def add(self, item: Item, place: str) -> None:
        match item:
            case ReasoningItem():
                self._add_reasoning(item, place)
            case FunctionCallItem():
                call = FunctionCall(item.call_id, CalledFunction(item.name, item.arguments))
                turn = self._open or self._begin(place)
                turn.tool_calls = [*(turn.tool_calls or []), call]
            case MessageItem(role="assistant"):
                self._before_text(place).content = _content(item.content)
            case _:
                self._open = None
                self.turns.add(_other_turn(item), place)

    def _add_reasoning(self, item: ReasoningItem, place: str) -> None:
        text = "\n\n".join(part.text for part in item.content or ())
        if not text:
            return
        turn = self._before_text(place)
        turn.reasoning = text if turn.reasoning is None else f"{turn.reasoning}\n\n{text}"

    def _before_text(self, place: str) -> AssistantTurn:
        """A turn that has neither its text nor calls yet."""
        turn = self._open
        return self._begin(place) if turn is None or turn.content is not None or turn.tool_calls else turn

    def _begin(self, place: str) -> AssistantTurn:
        turn = self._open = AssistantTurn()
        self.turns.add(turn, place)
        return turn


def _other_turn(item: Item) -> Turn:
    match item:
        case FunctionCallOutputItem():
            return ToolTurn(_content(item.output), item.call_id, item.name)
        case MessageItem(role="user"):
            return UserTurn(_content(item.content))
        case MessageItem(role="system"):
            return SystemTurn(_content(item.content))
        case MessageItem():
            return DeveloperTurn(_content(item.content))
        case _:
            raise TypeError(f"{type(item).__name__} is an assistant's")


def _content(content: InputContent) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part) for part in content]


def _part(part: InputPart) -> Any:
    match part:
        case InputText(text) | OutputText(text):
            return TextPart(text)
        case Refusal(refusal):
            return RefusalPart(refusal)
        case InputImage():
            return ImagePart()
        case InputFile():
            return FilePart()
        case InputAudio():
            return AudioPart()
