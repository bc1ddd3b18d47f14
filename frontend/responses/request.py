"""What `POST /v1/responses` accepts. What it says of an answer is checked where it is made a chat, in `translation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from frontend.answer_format import JsonObjectFormat, TextFormat
from frontend.chat_messages import FunctionName
from frontend.chat_request import MAX_TOP_LOGPROBS, Effort
from frontend.generation_fields import Seed, ServiceTier, TokenLimit, check_stream
from frontend.request_fields import read_fields
from frontend.responses.fields import FIELDS
from frontend.responses.item_turns import Turns, read_items
from frontend.responses.items import MAX_ITEMS
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.check import MAX_TOOLS

LOGPROBS = "message.output_text.logprobs"
Include = Literal[
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
]  # fmt: skip

Summary = Literal["auto", "concise", "detailed"]


class Reasoning(Struct, forbid_unknown_fields=True):
    """`context` and `mode` may say what is the case anyway."""

    effort: Effort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class JsonSchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    name: FunctionName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct, forbid_unknown_fields=True, frozen=True):
    format: TextFormat | JsonObjectFormat | JsonSchema = TextFormat()
    verbosity: Literal["low", "medium", "high"] | None = None


class Function(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """`allowed_callers` may say what is the case anyway: the model calls, and no program."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Meta(min_length=1)] | None = None
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None


class FunctionChoice(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    name: FunctionName


class AllowedChoice(Struct, forbid_unknown_fields=True):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Meta(min_length=1, max_length=MAX_TOOLS)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None


class CreateResponse(Struct):
    """The honoured fields; `fields.FIELDS` has them all."""

    model: str
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_ITEMS)]
    instructions: str | None = None
    previous_response_id: Annotated[str, Meta(max_length=256)] | None = None
    store: bool = True
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    text: TextConfig = TextConfig()
    reasoning: Reasoning | None = None
    max_output_tokens: TokenLimit | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    include: Annotated[list[Include], Meta(max_length=16)] = []
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
    ] = {}
    prompt_cache_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    service_tier: ServiceTier = "auto"
    truncation: Literal["auto", "disabled"] = "disabled"
    seed: Seed | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def effort(self) -> Effort | None:
        return None if self.reasoning is None else self.reasoning.effort

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in self.include


def read_response(body: bytes, defaults: Mapping[str, Any]) -> CreateResponse:
    """A request, whose items and tools are not read yet; they are without what is null in them, as clients write much
    of it.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `reasoning.effort`.
    """
    request = read_fields(body, CreateResponse, FIELDS, defaults)
    check_stream(request.stream, request.stream_options)
    if request.top_logprobs and not request.wants_logprobs:
        raise InvalidRequest(f"top_logprobs needs include: [{LOGPROBS!r}].", param="top_logprobs")
    if request.text.verbosity not in (None, "medium"):
        raise UnsupportedParameter("gpt-oss was not trained for text.verbosity.", param="text.verbosity")
    request.tools = [_without_nulls(tool) for tool in request.tools]  # in a schema null has a meaning
    if not isinstance(request.input, str):
        request.input = [_plain_item(item) for item in request.input]
    return request


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    """Without what is null in it and in its parts."""
    item = _without_nulls(item)
    for name in ("content", "output"):
        if isinstance(parts := item.get(name), list):
            item[name] = [_without_nulls(part) if isinstance(part, dict) else part for part in parts]
    return item


def _without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def turns_of(request: CreateResponse) -> Turns:
    """The turns of the input, whose references are resolved.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `input[0].content`.
    """
    turns = read_items(request.input)
    if not turns.turns:
        raise InvalidRequest("The input says nothing.", param="input")
    return turns
