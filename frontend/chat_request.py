"""What `POST /v1/chat/completions` accepts, and its translation into the records that Triton gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from frontend import chat_fields, json_body
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.options import check_options
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest, ReasoningEffort

MAX_MESSAGES = 2048
PART_SEPARATOR = "\n"  # the one rule for joining a message's text parts

EFFORTS: dict[str, ReasoningEffort] = {  # OpenAI's levels -> those gpt-oss was trained with
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Name = Annotated[str, Meta(pattern=r"^[^\s<|\\/>]{1,64}$")]  # OpenAI's pattern


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    pass


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    pass


class FilePart(Struct, tag_field="type", tag="file"):
    pass


Part = TextPart | ImagePart | AudioPart | FilePart
Content = str | Annotated[list[Part], Meta(min_length=1)]
AssistantContent = str | Annotated[list[Part | RefusalPart], Meta(min_length=1)]


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
    tool_calls: list[Any] | None = None
    function_call: dict[str, Any] | None = None
    audio: dict[str, Any] | None = None
    annotations: list[Any] | None = None  # clients echo it; it is not part of the text


class ToolTurn(Struct, tag_field="role", tag="tool"):
    pass


class FunctionTurn(Struct, tag_field="role", tag="function"):
    pass


Turn = SystemTurn | DeveloperTurn | UserTurn | AssistantTurn | ToolTurn | FunctionTurn


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Struct):
    """The honoured fields; `chat_fields.FIELDS` has them all."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    reasoning_effort: Effort = "medium"
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    stop: str | list[str] = []
    prompt_cache_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] = "auto"
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    include_reasoning: bool = True
    return_token_ids: bool = False


class Chat(Struct, frozen=True):
    """A request that has been checked and is ready to run."""

    model: str
    prompt: PromptRequest
    options: GenerationOptions
    stream: bool
    include_usage: bool
    include_reasoning: bool
    return_token_ids: bool
    limit_field: str  # the name under which the caller gave `max_tokens`
    prompt_cache_key: str | None
    flex: bool  # may wait behind all others


def read_chat(body: bytes, defaults: Mapping[str, Any] = MappingProxyType({})) -> Chat:
    """Check a request body. `defaults` stand in for honoured fields that it leaves out.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `messages[0].content`.
    """
    fields = {**defaults, **chat_fields.honoured(json_body.read_object(body))}
    try:
        request = msgspec.convert(fields, ChatRequest, str_keys=True)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream: true.", param="stream_options")
    options = _options(request)
    check_options(options)
    messages = [_message(turn, f"messages[{index}]") for index, turn in enumerate(request.messages)]
    return Chat(
        model=request.model,
        prompt=PromptRequest(messages, EFFORTS[request.reasoning_effort]),
        options=options,
        stream=request.stream,
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        include_reasoning=request.include_reasoning,
        return_token_ids=request.return_token_ids,
        limit_field="max_tokens" if request.max_completion_tokens is None else "max_completion_tokens",
        prompt_cache_key=request.prompt_cache_key,
        flex=request.service_tier == "flex",
    )


def _options(request: ChatRequest) -> GenerationOptions:
    limits = {limit for limit in (request.max_tokens, request.max_completion_tokens) if limit is not None}
    if len(limits) > 1:
        raise InvalidRequest("max_tokens and max_completion_tokens differ; give one.", param="max_tokens")
    return GenerationOptions(
        max_tokens=limits.pop() if limits else None,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        repetition_penalty=request.repetition_penalty,
        logit_bias=request.logit_bias,
        stop=[request.stop] if isinstance(request.stop, str) else request.stop,
        stop_token_ids=request.stop_token_ids,
        ignore_eos=request.ignore_eos,
    )


def _message(turn: Turn, path: str) -> Message:
    match turn:
        case AssistantTurn():
            return _assistant_message(turn, path)
        case DeveloperTurn():
            return Message("developer", _text(turn.content, path), name=turn.name)
        case UserTurn():
            return Message("user", _text(turn.content, path), name=turn.name)
        case SystemTurn():
            return Message("system", _text(turn.content, path), name=turn.name)
        case ToolTurn() | FunctionTurn():
            raise UnsupportedParameter("Messages from tools are not supported yet.", param=f"{path}.role")


def _assistant_message(turn: AssistantTurn, path: str) -> Message:
    for name in ("tool_calls", "function_call", "audio"):
        if getattr(turn, name):
            raise UnsupportedParameter(f"{name} is not supported in a message yet.", param=f"{path}.{name}")
    reasoning = turn.reasoning if turn.reasoning is not None else turn.reasoning_content
    if turn.reasoning_content not in (None, reasoning):
        raise InvalidRequest("reasoning and reasoning_content differ; give one.", param=f"{path}.reasoning")
    if turn.content and turn.refusal:
        raise InvalidRequest("content and refusal exclude each other; give one.", param=f"{path}.refusal")
    text = "" if turn.content is None else _text(turn.content, path)
    return Message("assistant", text or turn.refusal or "", reasoning=reasoning, name=turn.name)


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


_MAX_ECHO_CHARS = 256  # of the caller's own text in an error
_MISSING_OR_UNKNOWN = re.compile(
    r"Object (missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL
)


def _invalid(text: str) -> InvalidRequest:
    """msgspec's message, whose end names the place (`… - at `$.messages[0].content``), as our error."""
    message, _, place = text.partition(" - at ")
    path = place.rpartition("`$")[2].strip("`").removeprefix(".").replace("[...]", "")
    if match := _MISSING_OR_UNKNOWN.fullmatch(message):
        path = f"{path}.{match['name']}" if path else match["name"]
    if path.endswith(".role") and message.startswith("Invalid value"):
        message += ", expected system, developer, user or assistant"
    path = path[:_MAX_ECHO_CHARS]
    return InvalidRequest(f"{path}: {message[:_MAX_ECHO_CHARS]}.", param=path or None)
