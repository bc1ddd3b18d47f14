"""What a prompt may be: refused here, before anything of it is rendered."""

from __future__ import annotations

import re
from typing import Any

from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.options import VOCABULARY
from gpt_oss_triton.wire import Message, PromptRequest, Tool

MAX_TOOLS = 128
MAX_CALLS = 128  # of one assistant message
MAX_SCHEMA_DEPTH = 64
MAX_SCHEMA_NODES = 5_000  # objects, lists and values
MAX_PROMPT_IDS = 1_048_576  # far beyond any context, whose own limit the engine knows

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_RULE = "A name is 1 to 64 letters, digits, underscores or hyphens."


def check(prompt: PromptRequest) -> None:
    """Refuse what cannot be rendered.

    Raises:
        InvalidRequest: nothing to render, or more than one form of it; a lone surrogate, a malformed name, a
            field that the message's role does not have, a schema out of bounds; `param` names the field.
        UnsupportedParameter: a name on a message that is not a user's or a tool's.
    """
    if prompt.text is not None or prompt.token_ids is not None:
        _check_raw(prompt)
        return
    if not prompt.messages:
        raise InvalidRequest("messages must hold at least one message.", param="messages")
    for index, message in enumerate(prompt.messages):
        _check_message(message, f"messages[{index}]")
    _check_tools(prompt.tools)
    if (wanted := prompt.response_format) is not None:
        check_name(wanted.name, "response_format.name")
        _check_text(wanted.description, "response_format.description")
        check_schema(wanted.schema, "response_format.schema")


def check_name(name: str | None, param: str) -> None:
    """Raises InvalidRequest for what is no name of a user, a function or a format."""
    if name is None or not _NAME.fullmatch(name):
        raise InvalidRequest(_NAME_RULE, param=param)


def check_schema(schema: Any, param: str) -> None:
    """Bounds of a JSON schema as it comes. What its references make of it in a prompt has its own: see `TypeWriter`.

    Raises:
        InvalidRequest: nested too deeply, too many parts, or a lone surrogate in it.
    """
    nodes = 0
    level = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value, param)
            elif isinstance(value, dict):
                _check_text("\n".join(value), param)
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
        nodes += len(level)
        if nodes > MAX_SCHEMA_NODES:
            raise InvalidRequest(f"A schema may have at most {MAX_SCHEMA_NODES} parts.", param=param)
        if not deeper:
            return
        level = deeper
    raise InvalidRequest(f"A schema may have at most {MAX_SCHEMA_DEPTH} levels.", param=param)


def _check_raw(prompt: PromptRequest) -> None:
    field = "text" if prompt.text is not None else "token_ids"
    if prompt.messages or prompt.tools or prompt.response_format is not None:
        raise InvalidRequest(
            "A raw prompt excludes messages, tools and a response format; give one form.", param=field
        )
    if prompt.text is not None and prompt.token_ids is not None:
        raise InvalidRequest("text and token_ids exclude each other; give one.", param="token_ids")
    if prompt.text is not None:
        if not prompt.text:
            raise InvalidRequest("The text must not be empty.", param="text")
        _check_text(prompt.text, "text")
    if prompt.token_ids is not None:
        _check_ids(prompt.token_ids)


def _check_ids(ids: list[int]) -> None:
    if not 1 <= len(ids) <= MAX_PROMPT_IDS:
        raise InvalidRequest(
            f"token_ids must hold 1 to {MAX_PROMPT_IDS} ids, got {len(ids)}.", param="token_ids"
        )
    for index, token in enumerate(ids):
        if not 0 <= token < VOCABULARY:
            raise InvalidRequest(
                f"There is no token {token}; ids are 0 to {VOCABULARY - 1}.", param=f"token_ids[{index}]"
            )


def _check_message(message: Message, path: str) -> None:
    _check_text(message.content, f"{path}.content")
    if message.reasoning is not None:
        _check_text(message.reasoning, f"{path}.reasoning")
        if message.role != "assistant":
            raise InvalidRequest(f"A {message.role} message has no reasoning.", param=f"{path}.reasoning")
    if message.tool_calls:
        _check_calls(message, f"{path}.tool_calls")
    if message.role == "tool":
        check_name(message.name, f"{path}.name")
    elif message.name is not None:
        if message.role != "user":
            raise UnsupportedParameter(
                f"A name is not supported in messages of the role {message.role}.", param=f"{path}.name"
            )
        check_name(message.name, f"{path}.name")


def _check_calls(message: Message, path: str) -> None:
    if message.role != "assistant":
        raise InvalidRequest(f"A {message.role} message has no tool calls.", param=path)
    if len(message.tool_calls) > MAX_CALLS:
        raise InvalidRequest(f"A message has at most {MAX_CALLS} tool calls.", param=path)
    for index, call in enumerate(message.tool_calls):
        check_name(call.name, f"{path}[{index}].name")
        _check_text(call.arguments, f"{path}[{index}].arguments")


def _check_tools(tools: list[Tool]) -> None:
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(
            f"tools has {len(tools)} functions; at most {MAX_TOOLS} are allowed.", param="tools"
        )
    names: set[str] = set()
    for index, tool in enumerate(tools):
        check_name(tool.name, f"tools[{index}].name")
        if tool.name in names:
            raise InvalidRequest(f"There are two functions named {tool.name}.", param=f"tools[{index}].name")
        names.add(tool.name)
        _check_text(tool.description, f"tools[{index}].description")
        check_schema(tool.parameters, f"tools[{index}].parameters")


def _check_text(text: str, param: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"The text is not valid Unicode: lone surrogate at character {error.start}.", param=param
        ) from None
