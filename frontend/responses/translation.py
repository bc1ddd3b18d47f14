"""A response's request as the chat request that it is; errors keep the names of the fields that the caller wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from frontend import answer_format, function_tools
from frontend.chat_messages import SystemTurn
from frontend.chat_request import MAX_MESSAGES, Chat, ChatRequest, Effort, chat_of
from frontend.request_fields import invalid
from frontend.responses.item_turns import Turns
from frontend.responses.request import (
    AllowedChoice,
    CreateResponse,
    Function,
    FunctionChoice,
    JsonSchema,
)
from frontend.run_context import params_renamed
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter


def chat_from(request: CreateResponse, turns: Turns, default_effort: Effort, *, guided: bool = False) -> Chat:
    """The chat that a response is.

    Args:
        turns: the whole conversation's, without `instructions`.
        guided: as of `chat_of`.

    Raises:
        InvalidRequest: as `chat_of`, with the names of this request's fields.
    """
    turns = prefaced(request, turns)
    if len(turns.turns) > MAX_MESSAGES:
        raise InvalidRequest(f"A conversation may have at most {MAX_MESSAGES} turns.", param="input")
    chat = ChatRequest(
        model=request.model,
        messages=turns.turns,
        stream=request.stream,
        max_completion_tokens=request.max_output_tokens,
        reasoning_effort=request.effort or default_effort,
        temperature=request.temperature,
        top_p=request.top_p,
        logprobs=request.wants_logprobs,
        top_logprobs=request.top_logprobs if request.wants_logprobs else None,
        tools=_tools(request.tools),
        tool_choice=_choice(request.tool_choice),
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=_format(request.text.format),
        prompt_cache_key=request.prompt_cache_key,
        service_tier=request.service_tier,
        seed=request.seed,
        top_k=request.top_k,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
    )
    with params_renamed(partial(own_param, places=turns.places)):
        return chat_of(chat, guided=guided)


def prefaced(request: CreateResponse, turns: Turns) -> Turns:
    """The conversation's turns after the request's instructions."""
    if request.instructions is None:
        return turns
    return Turns([SystemTurn(request.instructions), *turns.turns], ["instructions", *turns.places])


def own_param(param: str, places: Sequence[str]) -> str:
    """What a field of the chat is called here.

    Args:
        places: of the chat's messages.
    """
    if match := re.fullmatch(r"messages\[(\d+)\](.*)", param, re.DOTALL):
        index = int(match[1])
        place = places[index] if index < len(places) else "input"
        return (
            place
            if place in ("input", "instructions")
            else place + match[2].replace(".tool_call_id", ".call_id")
        )
    for ours, chats in _OTHER_NAMES:
        param = re.sub(chats, ours, param)
    return param


_OTHER_NAMES = (
    (r"\1", r"^(tools\[\d+\])\.function(?=\.)"),
    ("tool_choice.name", r"^tool_choice\.function\.name$"),
    ("tool_choice.tools", r"^tool_choice\.allowed_tools\.tools"),
    (r"\1", r"^(tool_choice\.tools\[\d+\])\.function(?=\.)"),
    ("text.format", r"^response_format(\.json_schema)?"),
    ("max_output_tokens", r"^max(_completion)?_tokens$"),
    ("include", r"^logprobs$"),
    ("input", r"^messages$"),
)


def _tools(tools: list[dict[str, Any]]) -> list[function_tools.FunctionTool | function_tools.CustomTool]:
    read: list[function_tools.FunctionTool | function_tools.CustomTool] = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        _only_functions(tool.get("type"), f"{path}.type")
        function = _convert(tool, Function, path)
        for name in ("defer_loading", "output_schema"):
            if getattr(function, name):
                raise UnsupportedParameter(f"{name} is not supported in a function.", param=f"{path}.{name}")
        read.append(
            function_tools.FunctionTool(
                function_tools.FunctionDefinition(
                    function.name, function.description, function.parameters, function.strict
                )
            )
        )
    return read


def _choice(choice: str | dict[str, Any]) -> function_tools.Choice:
    if isinstance(choice, str):
        word: Literal["none", "auto", "required"] = _convert(
            choice, Literal["none", "auto", "required"], "tool_choice"
        )
        return word
    if choice.get("type") == "allowed_tools":
        allowed = _convert(choice, AllowedChoice, "tool_choice")
        functions = [
            function_tools.AllowedFunction("function", function_tools.NamedFunction(tool.name))
            for tool in allowed.tools
        ]
        return function_tools.AllowedChoice(function_tools.AllowedTools(allowed.mode, functions))
    _only_functions(choice.get("type"), "tool_choice.type")
    named = _convert(choice, FunctionChoice, "tool_choice")
    return function_tools.FunctionChoice(function_tools.NamedFunction(named.name))


def _format(
    wanted: answer_format.TextFormat | answer_format.JsonObjectFormat | JsonSchema,
) -> answer_format.Format:
    if not isinstance(wanted, JsonSchema):
        return wanted
    schema = answer_format.JsonSchema(wanted.name, wanted.description, wanted.schema, wanted.strict)
    return answer_format.JsonSchemaFormat(schema)


def _only_functions(kind: Any, param: str) -> None:
    if kind is None:
        raise InvalidRequest(f"{param} is missing.", param=param)
    if kind != "function":
        raise UnsupportedParameter(
            f"{str(kind)[:64]} is not served here: the only tools are functions.", param=param
        )


def _convert(value: Any, kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error), kind, path) from None
