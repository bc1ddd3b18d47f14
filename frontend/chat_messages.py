"""The messages of a chat request, and their translation into those that are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.check import MAX_CALLS
from gpt_oss_triton.wire import Message, ToolCall

PART_SEPARATOR = "\n"  # the one rule for joining a message's text parts

# In Python `$` takes a line break behind it; its `\Z` is none of the published schema's, whose patterns are JavaScript's.
_END = r"$(?!\n)"
Name = Annotated[str, Meta(pattern=r"^[^\s<|\\/>]{1,64}" + _END)]  # OpenAI's pattern
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}" + _END)]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None  # no effect: prefixes are shared wherever they end


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class EchoedPart(TextPart, tag="text"):
    """An assistant's text as OpenAI's Agents SDK for JavaScript sends it back: with the whole message's other fields in it.
    None has an effect: the calls come in a message of their own."""

    role: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    annotations: Any = None


class ImagePart(Struct, tag_field="type", tag="image_url"):
    pass


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    pass


class FilePart(Struct, tag_field="type", tag="file"):
    pass


OtherPart = ImagePart | AudioPart | FilePart
Part = TextPart | OtherPart
Content = str | Annotated[list[Part], Meta(min_length=1)]
AssistantContent = str | Annotated[list[EchoedPart | OtherPart | RefusalPart], Meta(min_length=1)]


class CalledFunction(Struct, forbid_unknown_fields=True):
    name: FunctionName
    arguments: str
    parsed_arguments: Any = None  # the client's own


class FunctionCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    id: CallId
    function: CalledFunction
    index: int | None = None  # of a call that was put together from a stream


class CustomCall(Struct, tag_field="type", tag="custom"):
    pass


class SystemTurn(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    content: Content
    name: Name | None = None


class DeveloperTurn(SystemTurn, tag="developer"):
    pass


class UserTurn(SystemTurn, tag="user"):
    pass


class AssistantTurn(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    content: AssistantContent | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # another name of `reasoning`
    name: Name | None = None
    tool_calls: Annotated[list[FunctionCall | CustomCall], Meta(max_length=MAX_CALLS)] | None = None
    function_call: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    annotations: list[Any] | None = None  # clients echo it; it is not part of the text
    parsed: Any = None  # the client's own


class ToolTurn(Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    content: Content
    tool_call_id: CallId
    name: str | None = None  # the function's, which the call says already


class FunctionTurn(Struct, tag_field="role", tag="function"):
    pass


Turn = SystemTurn | DeveloperTurn | UserTurn | AssistantTurn | ToolTurn | FunctionTurn


def read_messages(turns: Sequence[Turn]) -> list[Message]:
    """The messages as they are rendered; each tool's result is given the name of the function that was called.

    Raises:
        InvalidRequest: a result of a call that no earlier message made; fields that exclude each other.
        UnsupportedParameter: anything but text, or OpenAI's older form of calls.
    """
    called: dict[str, str] = {}  # function by the id of the call
    return [_message(turn, f"messages[{index}]", called) for index, turn in enumerate(turns)]


def unexplained_calls(turns: Sequence[Turn]) -> dict[int, str]:
    """Ids of the first calls of those of the running turn's messages that came without their reasoning, by the
    messages' indices."""
    found: dict[int, str] = {}
    for index, turn in reversed([*enumerate(turns)]):
        if not isinstance(turn, AssistantTurn):
            continue
        if not turn.tool_calls:
            break  # an answer: what was thought before it is in no prompt any more
        first = turn.tool_calls[0]
        if turn.reasoning is None and turn.reasoning_content is None and isinstance(first, FunctionCall):
            found[index] = first.id
    return found


def _message(turn: Turn, path: str, called: dict[str, str]) -> Message:
    match turn:
        case AssistantTurn():
            return _assistant_message(turn, path, called)
        case ToolTurn():
            name = called.get(turn.tool_call_id)
            if name is None:
                raise InvalidRequest(
                    "No earlier message of the assistant has a tool call with this id.",
                    param=f"{path}.tool_call_id",
                )
            if turn.name not in (None, name):
                raise InvalidRequest(f"The call was of {name}; give that name or none.", param=f"{path}.name")
            return Message("tool", _text(turn.content, path), name=name)
        case DeveloperTurn():
            return Message("developer", _text(turn.content, path), name=turn.name)
        case UserTurn():
            return Message("user", _text(turn.content, path), name=turn.name)
        case SystemTurn():
            return Message("system", _text(turn.content, path), name=turn.name)
        case FunctionTurn():
            raise UnsupportedParameter(
                "The role function is deprecated and not supported; use tool.", param=f"{path}.role"
            )


def _assistant_message(turn: AssistantTurn, path: str, called: dict[str, str]) -> Message:
    for name in ("function_call", "audio"):
        if getattr(turn, name):
            raise UnsupportedParameter(f"{name} is not supported in a message.", param=f"{path}.{name}")
    reasoning = turn.reasoning if turn.reasoning is not None else turn.reasoning_content
    if turn.reasoning_content not in (None, reasoning):
        raise InvalidRequest("reasoning and reasoning_content differ; give one.", param=f"{path}.reasoning")
    if turn.content and turn.refusal:
        raise InvalidRequest("content and refusal exclude each other; give one.", param=f"{path}.refusal")
    text = "" if turn.content is None else _text(turn.content, path)
    calls = _calls(turn.tool_calls or [], f"{path}.tool_calls", called)
    return Message(
        "assistant", text or turn.refusal or "", reasoning=reasoning, name=turn.name, tool_calls=calls
    )


def _calls(calls: list[FunctionCall | CustomCall], path: str, called: dict[str, str]) -> list[ToolCall]:
    read = []
    ids: set[str] = set()
    for index, call in enumerate(calls):
        if isinstance(call, CustomCall):
            raise UnsupportedParameter("Only functions are supported.", param=f"{path}[{index}].type")
        if call.id in ids:
            raise InvalidRequest(
                "Two tool calls of one message have the same id.", param=f"{path}[{index}].id"
            )
        ids.add(call.id)
        called[call.id] = call.function.name
        read.append(ToolCall(call.function.name, call.function.arguments))
    return read


def _text(content: Content | AssistantContent, path: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        match part:
            case TextPart():
                texts.append(part.text)
            case RefusalPart():
                texts.append(part.refusal)
            case _:
                raise UnsupportedParameter("Only text is supported.", param=f"{path}.content[{index}].type")
    return PART_SEPARATOR.join(texts)
