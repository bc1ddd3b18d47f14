"""What `POST /v1/chat/completions` accepts, and its translation into the records that Triton gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import Meta, field
from msgspec.structs import replace

from frontend.answer_format import Form, Format, TextFormat, read_format
from frontend.chat_fields import FIELDS
from frontend.chat_messages import Turn, read_messages, unexplained_calls
from frontend.function_tools import Choice, Functions, Tools, read_functions
from frontend.generation_fields import GenerationFields, TokenLimit, check_stream
from frontend.request_fields import read_fields
from frontend.run_request import RunRequest
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.grammar import answer_grammar
from gpt_oss_triton.options import check_options
from gpt_oss_triton.wire import GenerationOptions, PromptRequest, ReasoningEffort

MAX_MESSAGES = 2048
MAX_CHOICES = 8
MAX_TOP_LOGPROBS = 20

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


class ChatRequest(GenerationFields, kw_only=True):
    """The honoured fields; `chat_fields.FIELDS` has them all."""

    model: str
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    reasoning_effort: Effort = "medium"
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] = 1
    tools: Tools = field(default_factory=list)
    tool_choice: Choice | None = None
    parallel_tool_calls: bool = True
    response_format: Format = TextFormat()
    prompt_cache_key: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    include_reasoning: bool = True


class Chat(RunRequest, frozen=True):
    """A request that has been checked and is ready to run.

    Attributes:
        limit_field: the name under which the caller gave `max_tokens`.
        n: answers to the prompt.
        functions: names of those that the answer may call.
        grammar_field: what a grammar was made for.
        unexplained_calls: as of `chat_messages.unexplained_calls`.
    """

    stream: bool
    include_usage: bool
    include_reasoning: bool
    return_token_ids: bool
    limit_field: str
    prompt_cache_key: str | None
    n: int = 1
    functions: frozenset[str] = frozenset()
    grammar_field: Literal["tools", "response_format"] | None = None
    unexplained_calls: dict[int, str] = field(default_factory=dict)

    def own_param(self, param: str) -> str:
        """What the caller calls a field of the options."""
        if param == "max_tokens":
            return self.limit_field
        if param == "grammar" and self.grammar_field is not None:
            return self.grammar_field
        return param


def read_chat(
    body: bytes, defaults: Mapping[str, Any] = MappingProxyType({}), *, guided: bool = False
) -> Chat:
    """Check a request body.

    Args:
        defaults: stand in for honoured fields that it leaves out.
        guided: calls keep to the declared functions and their schemas, although the request does not ask for it.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `messages[0].content`.
    """
    return chat_of(read_fields(body, ChatRequest, FIELDS, defaults), guided=guided)


def chat_of(request: ChatRequest, *, guided: bool = False) -> Chat:
    """The same from a request whose fields have the right types. Raises as `read_chat`."""
    check_stream(request.stream, request.stream_options)
    messages = read_messages(request.messages)
    functions = read_functions(request.tools, request.tool_choice, guided=guided)
    form = read_format(request.response_format)
    grammar = _grammar(request, functions, form)
    options = _options(request, grammar)
    check_options(options)
    return Chat(
        model=request.model,
        prompt=PromptRequest(
            messages,
            EFFORTS[request.reasoning_effort],
            tools=functions.tools,
            response_format=form.told,
        ),
        options=options,
        stream=request.stream,
        include_usage=request.include_usage,
        include_reasoning=request.include_reasoning,
        return_token_ids=request.return_token_ids,
        limit_field="max_tokens" if request.max_completion_tokens is None else "max_completion_tokens",
        prompt_cache_key=request.prompt_cache_key,
        flex=request.flex,
        n=request.n,
        functions=functions.names,
        grammar_field=None if grammar is None else "tools" if form.schema is None else "response_format",
        unexplained_calls=unexplained_calls(request.messages),
    )


def _grammar(request: ChatRequest, functions: Functions, form: Form) -> str | None:
    """None where the model is trusted: free text, and calls that are neither bound to anything nor guided."""
    one_call = bool(functions.callable) and not request.parallel_tool_calls
    bound = form.schema is not None or functions.bound or one_call
    guided = functions.guided and bool(functions.callable) and not request.ignore_eos
    if not (bound or guided):
        return None
    if request.ignore_eos:
        raise InvalidRequest("An answer of a fixed form cannot go on after its end.", param="ignore_eos")

    def grammar(functions: Functions) -> str:
        return answer_grammar(
            functions.calls(), must_call=functions.must_call, answer=form.schema, strict=form.strict
        )

    try:
        return grammar(functions)
    except InvalidRequest:
        if not functions.guided:
            raise
        # It may be what nobody asked for that makes it too large.
        return grammar(replace(functions, guided=False))


def _options(request: ChatRequest, grammar: str | None) -> GenerationOptions:
    limits = {limit for limit in (request.max_tokens, request.max_completion_tokens) if limit is not None}
    if len(limits) > 1:
        raise InvalidRequest("max_tokens and max_completion_tokens differ; give one.", param="max_tokens")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true.", param="top_logprobs")
    return request.options(
        max_tokens=limits.pop() if limits else None,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        grammar=grammar,
    )
