"""The grammars, held to a real matcher over the real vocabulary."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.grammar import ANY_OBJECT, Call, answer_grammar, check_enforceable
from tests.unit.harmony.turns import ids

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string", "enum": ["x", "é"]}},
    "required": ["a"],
    "additionalProperties": False,
}
THOUGHT = '<|channel|>analysis<|message|>Free {text}, "anything"\n\n<|end|><|start|>assistant'
PREAMBLE = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>Hi there.<|return|>"
JSON = '<|channel|>final<|message|>{"a": 1, "b": "é"}<|return|>'
CALL = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>'
LOOSE = '<|channel|>commentary to=functions.loose <|constrain|>json<|message|>{"x": [1]}<|call|>'
TURNS = {
    "final": FINAL,
    "thought final": THOUGHT + FINAL,
    "thoughts final": THOUGHT + THOUGHT + FINAL,
    "preamble final": PREAMBLE + FINAL,
    "json": JSON,
    "thought json": THOUGHT + JSON,
    "preamble json": PREAMBLE + JSON,
    "call": CALL,
    "thought call": THOUGHT + CALL,
    "preamble thought call": PREAMBLE + THOUGHT + CALL,
    "loose call": LOOSE,
}
FREE = {"final", "thought final", "thoughts final", "preamble final", "json", "thought json", "preamble json"}
CALLS = {"call", "thought call", "preamble thought call"}
STRICT = Call("f", SCHEMA)
LOOSE_CALL = Call("loose", ANY_OBJECT)


class Vocabulary:
    """As llguidance asks for it."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = tokens.END_OF_TEXT
    special_token_ids = list(range(tokens.FIRST_SPECIAL, 201_088))  # noqa: RUF012
    tokens = [  # noqa: RUF012
        tokens.token_bytes(t) or tokens.decode([t]).encode() for t in range(201_088)
    ]

    def __call__(self, text: str) -> list[int]:
        return tokens.encode_text(text)


@cache
def tokenizer() -> LLTokenizer:
    return LLTokenizer(Vocabulary())  # type: ignore[arg-type]


def accepts(grammar: str, marked: str) -> bool:
    """Whether the grammar takes the whole turn, and nothing after it."""
    matcher = LLMatcher(tokenizer(), LLMatcher.grammar_from_lark(grammar))
    assert not matcher.is_error(), matcher.get_error()
    turn = ids(marked)
    return matcher.try_consume_tokens(turn) == len(turn) and matcher.is_stopped()


@pytest.mark.parametrize(
    ("grammar", "accepted"),
    [
        (answer_grammar(), FREE),
        (answer_grammar([STRICT]), FREE | CALLS),
        (answer_grammar([STRICT, LOOSE_CALL]), FREE | CALLS | {"loose call"}),
        (answer_grammar([STRICT], must_call=True), CALLS),
        (answer_grammar([LOOSE_CALL], must_call=True), {"loose call"}),
        (answer_grammar(answer=SCHEMA), {"json", "thought json"}),
        (answer_grammar([STRICT], answer=SCHEMA), {"json", "thought json"} | CALLS),
        (answer_grammar([STRICT], must_call=True, answer=SCHEMA), CALLS),
        (answer_grammar(answer=ANY_OBJECT), {"json", "thought json"}),
    ],
)
def test_which_turns_may_come(grammar: str, accepted: set[str]) -> None:
    assert {name for name, turn in TURNS.items() if accepts(grammar, turn)} == accepted


@pytest.mark.parametrize(
    "turn",
    [
        "Hi.",
        "<|channel|>final<|message|>Hi.",
        "<|channel|>final<|message|>Hi.<|call|>",
        "<|channel|>final<|message|>Hi.<|end|>",
        "<|channel|>thought<|message|>Hm.<|end|><|start|>assistant" + FINAL,
        "<|channel|>analysis<|message|>Hm.<|return|>",
        "<|channel|>analysis to=python<|message|>1+1<|call|>",
        "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Hi.<|return|>",
        "<|channel|>commentary to=functions.g <|constrain|>json<|message|>{}<|call|>",
        "<|channel|>commentary to=functions.ff <|constrain|>json<|message|>{}<|call|>",
        CALL.replace("1", '"1"'),
        CALL.replace('"a"', '"c"'),
        CALL.replace('{"a": 1}', "{}"),
        CALL.replace("<|call|>", "<|return|>"),
        CALL + CALL,
    ],
)
def test_what_no_grammar_lets_through(turn: str) -> None:
    assert not accepts(answer_grammar([STRICT]), turn)


def test_empty_messages_are_messages() -> None:
    empty = "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|><|return|>"
    assert accepts(answer_grammar(), empty)


def test_json_may_be_announced_as_such() -> None:
    grammar = answer_grammar(answer=SCHEMA)
    assert accepts(grammar, JSON.replace("final", "final <|constrain|>json"))
    assert not accepts(answer_grammar(), JSON.replace("final", "final <|constrain|>json"))


def test_white_space_ends_some_time() -> None:
    grammar = answer_grammar(answer=SCHEMA)
    pretty = '<|channel|>final<|message|>{\n    "a": 1,\n    "b": "x"\n}<|return|>'
    assert accepts(grammar, pretty)
    assert not accepts(grammar, pretty.replace("    ", " " * 100))


def test_a_callers_own_options_for_the_matcher_do_not_count() -> None:
    schema = {**SCHEMA, "x-guidance": {"whitespace_flexible": False, "lenient": True}, "uniqueItems": True}
    with pytest.raises(InvalidRequest):
        check_enforceable(schema, "p")


def test_properties_come_in_the_callers_order() -> None:
    schema = {
        "type": "object",
        "properties": {"z": {"type": "null"}, "a": {"type": "null"}},
        "required": ["z", "a"],
    }
    grammar = answer_grammar(answer=schema)
    assert accepts(grammar, '<|channel|>final<|message|>{"z": null, "a": null}<|return|>')
    assert not accepts(grammar, '<|channel|>final<|message|>{"a": null, "z": null}<|return|>')


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "weird"}, "weird"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"type": "robot"}, "robot"),
        ({"properties": 5}, "properties"),
        ({"$ref": "https://example.org/schema"}, "no place"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "minimum"),
        ({"title": "x" * 70_000}, "65536"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_the_reason(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_enforceable(schema, "response_format.json_schema.schema")
    assert caught.value.param == "response_format.json_schema.schema"
    assert reason in caught.value.message
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("schema", [{"not": {}}, {"type": "array", "uniqueItems": True}, {"format": "weird"}])
def test_what_is_not_strict_is_enforced_as_far_as_it_can_be(schema: dict[str, Any]) -> None:
    check_enforceable(schema, "p", strict=False)
    assert accepts(answer_grammar([Call("f", {**schema, "type": "object"}, strict=False)]), CALL)


def test_references_are_followed() -> None:
    node = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}
    schema = {"$ref": "#/$defs/node", "$defs": {"node": {**node, "additionalProperties": False}}}
    check_enforceable(schema, "p")
    grammar = answer_grammar(answer=schema)
    assert accepts(grammar, '<|channel|>final<|message|>{"kids": [{"kids": []}, {}]}<|return|>')
    assert not accepts(grammar, '<|channel|>final<|message|>{"kids": [1]}<|return|>')


def test_the_address_that_a_schema_gives_itself_does_not_count() -> None:
    schema = {"$id": "#/$defs/other", "type": "integer", "$defs": {"other": {"type": "string"}}}
    check_enforceable(schema, "p")
    grammar = answer_grammar(answer=schema)
    assert accepts(grammar, "<|channel|>final<|message|>1<|return|>")
    assert not accepts(grammar, '<|channel|>final<|message|>"1"<|return|>')


def test_a_grammar_has_a_most_size() -> None:
    large = {"type": "object", "title": "x" * 60_000}
    with pytest.raises(InvalidRequest) as caught:
        answer_grammar([Call(f"f{index}", large) for index in range(5)])
    assert caught.value.param == "tools"


def test_as_many_functions_as_are_allowed() -> None:
    grammar = answer_grammar([Call(f"f{index}", SCHEMA) for index in range(128)])
    assert accepts(grammar, CALL.replace("functions.f", "functions.f127"))


def test_an_answers_schema_that_is_not_strict_is_enforced_as_far_as_it_can_be() -> None:
    schema = {**SCHEMA, "uniqueItems": True}
    grammar = answer_grammar(answer=schema, strict=False)
    assert accepts(grammar, JSON)
    assert not accepts(grammar, JSON.replace("{", "[", 1))
