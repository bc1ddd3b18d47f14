"""What an answer may be, as one grammar over all that the model writes after `<|start|>assistant`.

Without a grammar the model is free. A grammar leaves the `analysis` free and says which messages may come, in
the order and with the headers that the model itself uses: thoughts, perhaps a preamble, and then either a
final answer or one call, with which the turn ends. The text is llguidance's Lark dialect; control tokens stand in
it as references to special tokens, so no text can be mistaken for one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llguidance import LLMatcher

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.check import check_schema
from gpt_oss_triton.harmony.schema_work import check_work
from gpt_oss_triton.options import MAX_GRAMMAR_CHARS

MAX_SCHEMA_CHARS = 65_536  # as JSON; compiling 2,000 properties takes 0.1 s
ANY_OBJECT: dict[str, Any] = {"type": "object"}

_MAX_REASON_CHARS = 256
# White space is where a model stays that would rather write what it may not. So much is a line break and seven levels of two blanks.
_WHITESPACE = r"[ \t\r\n]{0,16}"
_FREE = r"/(.|\n)*/"


class Call(NamedTuple):
    """A function that may be called, and what its arguments must be.

    Attributes:
        strict: a keyword of the schema that cannot be enforced is an error; else it is left out.
    """

    name: str
    schema: dict[str, Any]
    strict: bool = True


def answer_grammar(
    calls: Sequence[Call] = (),
    *,
    must_call: bool = False,
    answer: dict[str, Any] | None = None,
    strict: bool = True,
) -> str:
    """The grammar of one answer.

    Args:
        calls: of functions with distinct names.
        must_call: no final answer but a call.
        answer: JSON schema of the final answer; None leaves it free. With one, a preamble comes only before a
            call, because the content has to be the JSON alone.
        strict: as of `Call`, for the answer's schema.

    Raises:
        InvalidRequest: the grammar is larger than 256 Ki characters.
    """
    rules = [
        f"start: {_turn(bool(calls), must_call, answer is not None)}",
        'thought: <|channel|> "analysis" <|message|> FREE? next',
        'preamble: <|channel|> "commentary" <|message|> FREE? next',
        'next: <|end|> <|start|> "assistant"',
        f"FREE: {_FREE}",
    ]
    if calls:
        functions = " | ".join(f"call_{index}" for index in range(len(calls)))
        rules.append(f'call: <|channel|> "commentary to=functions." ({functions}) <|call|>')
        for index, call in enumerate(calls):
            rules.append(f'call_{index}: "{call.name} " <|constrain|> "json" <|message|> arguments_{index}')
            rules.append(f"arguments_{index}: %json {_guided(call.schema, call.strict)}")
    if not must_call:
        rules += _final(answer, strict)
    grammar = "\n".join([*rules, ""])
    if len(grammar) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest("The schemas of the functions are too large together.", param="tools")
    return grammar


def check_enforceable(schema: dict[str, Any], param: str, *, strict: bool = True) -> None:
    """Refuse a schema that no grammar can be made of.

    Raises:
        InvalidRequest: it is no schema, or too large, or too much work; or, where it is strict, has keywords that
            cannot be enforced.
    """
    check_schema(schema, param)
    text = _guided(schema, strict)
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidRequest(f"A schema may have at most {MAX_SCHEMA_CHARS} characters.", param=param)
    check_work(schema, param)
    if reason := _fault(text):
        raise InvalidRequest(f"The schema cannot be enforced: {reason}", param=param)


def _turn(may_call: bool, must_call: bool, as_json: bool) -> str:
    if must_call:
        return "(thought | preamble)* call"
    if not may_call:
        return "thought* final" if as_json else "(thought | preamble)* final"
    if as_json:
        return "thought* final | (thought | preamble)* call"
    return "(thought | preamble)* (final | call)"


def _final(schema: dict[str, Any] | None, strict: bool) -> list[str]:
    if schema is None:
        return ['final: <|channel|> "final" <|message|> FREE? <|return|>']
    return [
        'final: <|channel|> "final" (" "? <|constrain|> "json")? <|message|> answer <|return|>',
        f"answer: %json {_guided(schema, strict)}",
    ]


def _guided(schema: dict[str, Any], strict: bool) -> str:
    """The schema with llguidance's own options, which a caller does not choose, and without the address that it gives
    itself: that could have another schema inside of it read in its place."""
    options: dict[str, Any] = {"whitespace_pattern": _WHITESPACE}
    if not strict:
        options["lenient"] = True
    unaddressed = {key: value for key, value in schema.items() if key not in ("$id", "id")}
    return json.dumps({**unaddressed, "x-guidance": options})


@lru_cache(maxsize=256)
def _fault(text: str) -> str:
    """Why a schema cannot be compiled; "" when it can."""
    failed, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(text))
    if not failed:
        return ""
    reason = " ".join(messages[0].split()).partition(" Enable '")[0]  # its options are not the caller's
    return reason[:_MAX_REASON_CHARS]
