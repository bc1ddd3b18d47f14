"""The input items of a response: what each may hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from frontend.chat_messages import CallId, FunctionName

MAX_ITEMS = 4096

Status = Literal["in_progress", "completed", "incomplete"]
Id = Annotated[str, Meta(max_length=256)]


class InputText(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None  # no effect: prefixes are shared wherever they end


class OutputText(Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """`annotations`, `logprobs` and the client's own `parsed` come back with an answer; they are not its text."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None


class Refusal(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    refusal: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    pass


class InputFile(Struct, tag_field="type", tag="input_file"):
    pass


class InputAudio(Struct, tag_field="type", tag="input_audio"):
    pass


InputPart = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio
InputContent = str | Annotated[list[InputPart], Meta(min_length=1)]


class MessageItem(Struct, forbid_unknown_fields=True):
    """`phase` is what OpenAI calls harmony's channel; a turn's form says the same."""

    role: Literal["user", "assistant", "system", "developer"]
    content: InputContent
    type: Literal["message"] = "message"
    id: Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class ReasoningText(Struct, forbid_unknown_fields=True):
    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Struct, forbid_unknown_fields=True):
    """Its `content` counts. A summary was written for people, and what is encrypted was not encrypted here."""

    type: Literal["reasoning"]
    id: Id | None = None
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class DirectCaller(Struct, tag_field="type", tag="direct", forbid_unknown_fields=True):
    """The model itself; OpenAI's programs, which call functions as well, are not served."""


class FunctionCallItem(Struct, forbid_unknown_fields=True):
    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: str
    id: Id | None = None
    status: Status | None = None
    caller: DirectCaller | None = None
    namespace: str | None = None
    parsed_arguments: Any = None  # the client's own


class FunctionCallOutputItem(Struct, forbid_unknown_fields=True):
    type: Literal["function_call_output"]
    call_id: CallId
    output: InputContent
    id: Id | None = None
    status: Status | None = None
    name: str | None = None  # the function's, which the call says already
    caller: DirectCaller | None = None
    namespace: str | None = None


class ItemReference(Struct, forbid_unknown_fields=True):
    """Stands for an item of a stored response."""

    id: Id
    type: Literal["item_reference"] | None = None


Item = MessageItem | ReasoningItem | FunctionCallItem | FunctionCallOutputItem
KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "reasoning": ReasoningItem,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionCallOutputItem,
}
