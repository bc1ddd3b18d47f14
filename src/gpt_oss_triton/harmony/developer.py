"""The text of the developer message: instructions, functions, and the format of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterable

from gpt_oss_triton.harmony.schema_comments import comment_lines
from gpt_oss_triton.harmony.typescript import TypeWriter
from gpt_oss_triton.wire import PromptRequest, ResponseFormat, Tool


def developer_text(prompt: PromptRequest) -> str:
    """Empty where there is nothing to say.

    - All `system` and `developer` messages, wherever they stand, are joined in order by blank lines. Blank ones
      are dropped.
    - Functions come in the caller's order.

    Raises:
        SchemaTooLarge: see `TypeWriter.parameter_type`.
    """
    sections = []
    instructions = [m.content for m in prompt.messages if m.role in ("system", "developer")]
    if folded := "\n\n".join(text for text in instructions if text.strip()):
        sections.append(f"# Instructions\n\n{folded}")
    if prompt.tools:
        sections.append(f"# Tools\n\n{_functions(prompt.tools)}")
    if prompt.response_format is not None:
        sections.append(f"# Response Formats\n\n{_format(prompt.response_format)}")
    return "\n\n".join(sections)


def _functions(tools: Iterable[Tool]) -> str:
    writer = TypeWriter()
    types = "".join(f"{_function(tool, writer)}\n\n" for tool in tools)
    return f"## functions\n\nnamespace functions {{\n\n{types}}} // namespace functions"


def _function(tool: Tool, writer: TypeWriter) -> str:
    parameter = None if tool.parameters is None else writer.parameter_type(tool.parameters)
    signature = "()" if parameter is None else f"(_: {parameter})"
    return "\n".join([*comment_lines(tool.description), f"type {tool.name} = {signature} => any;"])


def _format(wanted: ResponseFormat) -> str:
    schema = json.dumps(wanted.schema, ensure_ascii=False, separators=(",", ":"))
    comment = "".join(f"{line}\n" for line in comment_lines(wanted.description))
    return f"## {wanted.name}\n\n{comment}{schema}"
