"""Which schemas are refused before llguidance begins with them, and that those which people write are not."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony import grammar
from gpt_oss_triton.harmony.grammar import check_enforceable
from gpt_oss_triton.harmony.schema_work import MAX_PATTERN_PROPERTIES, MAX_REFERRED_LEVELS

Schema = dict[str, Any]
STRING: Schema = {"type": "string"}


def patterns(count: int, length: int = 14) -> list[Schema]:
    """Any two overlap, and none is like another."""
    return [{"pattern": f"^.*a.{{{number + 10}}}".ljust(length, "x") + "$"} for number in range(count)]


def words(begin: int, end: int) -> str:
    return f"^({'|'.join(f'w{number}' for number in range(begin, end))})$"


def nested(parts: list[Schema], key: str) -> Schema:
    """Each with the next one beside it."""
    schema: Schema = {}
    for part in parts:
        schema = {**STRING, **part, **({key: [schema]} if schema else {})}
    return schema


def at(place: Schema, depth: int = 1) -> Schema:
    for _ in range(depth):
        place = {"type": "object", "properties": {"p": place}}
    return place


def chain(length: int, around: Any = lambda reference: reference) -> Schema:
    defs = {str(number): around({"$ref": f"#/$defs/{number + 1}"}) for number in range(length)}
    return {"$ref": "#/$defs/0", "$defs": {**defs, str(length): STRING}}


def doubled(times: int) -> Schema:
    defs: Schema = {"0": {**STRING, "const": "x"}}
    for number in range(times):
        defs[str(number + 1)] = {"$ref": f"#/$defs/{number}", "anyOf": [{"$ref": f"#/$defs/{number}"}]}
    return {"$ref": f"#/$defs/{times}", "$defs": defs}


def named(count: int) -> Schema:
    return {"type": "object", "patternProperties": {f"^p{number}_": STRING for number in range(count)}}


def optional(count: int) -> Schema:
    return {"type": "object", "properties": {f"p{number}": STRING for number in range(count)}}


def spelt(name: str, way: int) -> str:
    """The name, some of its letters as a URI may write them."""
    return "".join(f"%{ord(letter):x}" if way >> place & 1 else letter for place, letter in enumerate(name))


LOOP: Schema = {"type": "object", "properties": {"p": {"$ref": "#/$defs/b"}, "q": patterns(1)[0]}}

TOO_MUCH: dict[str, Schema] = {
    "patterns of one string": {**STRING, "allOf": patterns(24)},
    "few but long patterns": {**STRING, "allOf": patterns(3, 300)},
    "beside a pattern": {**STRING, **patterns(1)[0], "allOf": patterns(9)[1:]},
    "with formats": {**STRING, "format": "email", "allOf": [{**p, "format": "uri"} for p in patterns(3)]},
    "variants in variants": nested(patterns(9), "anyOf"),
    "one variant of each": nested(patterns(9), "oneOf"),
    "of one property": {"allOf": [at(p) for p in patterns(9)]},
    "of one item": {"allOf": [{"type": "array", "items": p} for p in patterns(9)]},
    "of one place in a tuple": {"allOf": [{"type": "array", "prefixItems": [p]} for p in patterns(9)]},
    "of a further property": {"allOf": [{"type": "object", "additionalProperties": p} for p in patterns(9)]},
    "in a property": at({"allOf": patterns(9)}),
    "in what is referred to": {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": patterns(9)}}},
    "through references": {
        "allOf": [{"$ref": f"#/$defs/{number}"} for number in range(9)],
        "$defs": {str(number): part for number, part in enumerate(patterns(9))},
    },
    "through references with something beside them": {
        "properties": {f"p{n}": {"$ref": "#/$defs/a", "minLength": n} for n in range(300)},
        "$defs": {"a": {**STRING, "allOf": patterns(2, 60)}},
    },
    "through a loop": {
        "allOf": [{"$ref": "#/$defs/a"}, at(at({"properties": {"q": patterns(2, 1500)[1]}}))],
        "$defs": {"a": LOOP, "b": {"type": "object", "properties": {"p": {"$ref": "#/$defs/a"}}}},
        "not": patterns(1, 1500)[0],
    },
    "many times many variants": {"allOf": [{"anyOf": patterns(120)} for _ in range(2)]},
    "references that double": doubled(24),
    "too many names": named(MAX_PATTERN_PROPERTIES + 1),
    "too many names in several objects": {"prefixItems": [named(33), named(32)]},
    "names joined often": {**named(60), "allOf": [{"type": "object", "required": [str(n)]} for n in range(40)]},
    "properties that are counted": {**optional(300), "additionalProperties": False, "minProperties": 1},
    "properties counted elsewhere": {
        "allOf": [optional(300), {"type": "object", "additionalProperties": False, "maxProperties": 2}],
    },
    "remainders": {"type": "integer", "multipleOf": 1_000_003},
    "decimal remainders": {"type": "number", "multipleOf": 1.000003},
    "remainders joined": {"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 1009}]},
    "remainders without end": {"type": "integer", "multipleOf": 10**400},
    "the least integer": {"properties": {"n": {"type": "integer", "enum": [0, -(2**63)]}}},
    "about the least integer": {"const": {"a": [512 - 2**63]}},
    "no other integer": {"type": "integer", "minimum": -1e19, "maximum": -1e19},
    "no other integer, exclusively": {"type": "integer", "minimum": -1e19, "exclusiveMaximum": 1 - 2**63},
    "no other integer together": {"allOf": [{"type": "integer", "minimum": -1e19}, {"exclusiveMaximum": 1 - 2**63}]},
    "references that lead deep": chain(600, lambda reference: {"properties": {"a": reference}}),
    "references that only refer": chain(MAX_REFERRED_LEVELS),
    "references to the same under other names": {
        "prefixItems": [{"$ref": "#/$defs/" + spelt("large", n)} for n in range(32)],
        "$defs": {"large": {"properties": {f"p{n}": {} for n in range(400)}}},
    },
    "an address inside": {"type": "integer", "$defs": {"a": {"$id": "json-schema:///", "allOf": patterns(24)}}},
    "an old address inside": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "definitions": {"a": {"id": "json-schema:///", "allOf": patterns(24)}},
    },
    "an address beside a reference": {"items": {"$id": "#x", "$ref": "#/$defs/a"}, "$defs": {"a": STRING}},
    "a reference by name": {"$ref": "#a", "$defs": {"a": {"$anchor": "a", **STRING}}},
    "a reference to nothing": {"$ref": "#/$defs/b", "$defs": {"a": STRING}},
    "a reference that is read in two ways": {"$ref": "#/$defs/~~1", "$defs": {"~/": STRING, "~~1": STRING}},
}  # fmt: skip


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_takes_long_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, name: str, strict: bool) -> None:
    def seen(text: str) -> str:
        raise AssertionError("llguidance would have begun with it")

    monkeypatch.setattr(grammar, "_fault", seen)
    with pytest.raises(InvalidRequest) as caught:
        check_enforceable(TOO_MUCH[name], "tools[0].function.parameters", strict=strict)
    assert caught.value.param == "tools[0].function.parameters"
    assert caught.value.message.startswith("The schema cannot be enforced: ")
    assert len(caught.value.message) < 300


DATE: Schema = {"type": "string", "format": "date-time"}
BASE: Schema = {
    "type": "object",
    "properties": {"id": {"type": "string", "format": "uuid"}, "at": DATE, "seen": DATE},
}
NODE: Schema = {
    "type": "object",
    "properties": {"name": patterns(1)[0], "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
}
SHAPES: list[Schema] = [
    {
        "type": "object",
        "properties": {"kind": {"const": str(n)}, "code": {**STRING, **p}},
        "required": ["kind"],
    }
    for n, p in enumerate(patterns(20, 40))
]

TAKEN: dict[str, Schema] = {
    "a pattern in each of many properties": {
        "type": "object",
        "properties": {f"p{n}": {**STRING, **p} for n, p in enumerate(patterns(30, 60))},
    },
    "the rules for a password": {
        **STRING,
        "minLength": 8,
        "allOf": [{"pattern": p} for p in ("[A-Z]", "[a-z]", "[0-9]", "[^A-Za-z0-9]")],
    },
    "as many patterns as may be": {**STRING, "allOf": [{"pattern": letter * 10} for letter in "abcde"]},
    "two long patterns": {**STRING, "allOf": [{"pattern": words(0, 180)}, {"pattern": words(90, 270)}]},
    "a pattern and a format": {**STRING, **patterns(1, 100)[0], "format": "uri"},
    "one long pattern": {**STRING, "pattern": "|".join(f"word{n}" for n in range(2000)), "maxLength": 50},
    "many variants": {"anyOf": [{**STRING, **p} for p in patterns(200, 50)]},
    "objects told apart": {"type": "object", "oneOf": SHAPES},
    "references to objects with many formats": {
        "type": "object",
        "properties": {f"p{n}": {"$ref": f"#/$defs/{n}", "description": "One of them."} for n in range(60)},
        "$defs": {str(n): {"type": "object", "properties": {f"q{m}": DATE for m in range(6)}} for n in range(60)},
    },
    "one inherits from another": {
        "allOf": [{"$ref": "#/$defs/base"}, {"type": "object", "properties": {"name": patterns(1)[0]}}],
        "$defs": {"base": BASE},
    },
    "one that holds its like inherits": {
        "$ref": "#/$defs/comment",
        "$defs": {
            "base": BASE,
            "comment": {
                "allOf": [
                    {"$ref": "#/$defs/base"},
                    {"type": "object", "properties": {"replies": {"items": {"$ref": "#/$defs/comment"}}}},
                ]
            },
        },
    },
    "a list": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "a tree of the whole": {"type": "object", "properties": {"kids": {"items": {"$ref": "#"}}}},
    "multiples": {"properties": {"cents": {"multipleOf": 0.01}, "lot": {"type": "integer", "multipleOf": 100_000}}},
    "numbers as large as may be": {"properties": {"n": {"minimum": -1e15}, "m": {"const": 2**63}, "l": {"const": 1 - 2**53}}},
    "names by pattern": named(MAX_PATTERN_PROPERTIES),
    "at least one": {**optional(170), "additionalProperties": False, "minProperties": 1},
    "an address": {"$id": "https://example.org/a", "$ref": "#/$defs/a", "$defs": {"a": STRING}},
    "addresses from a generator": {"properties": {"a": {"$id": "#/properties/a", **STRING}}},
    "an id that says nothing": {"properties": {"a": {"id": "a", "$ref": "#/$defs/a"}}, "$defs": {"a": STRING}},
    "odd names": {
        "prefixItems": [{"$ref": "#/$defs/a~1b~0c"}, {"$ref": "#/%24defs/l/prefixItems/0"}],
        "$defs": {"a/b~c": STRING, "l": {"prefixItems": [STRING]}},
    },
    "properties named as keywords are": {
        "type": "object",
        "properties": {key: {**STRING, **p} for key, p in zip(("pattern", "format", "allOf", "$ref", "$id"), patterns(5), strict=True)},
    },
    "references in a row": chain(400),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_people_write_is_taken(name: str) -> None:
    check_enforceable(TAKEN[name], "p", strict=name != "objects told apart")


def test_what_is_no_schema_is_left_to_llguidance() -> None:
    for schema in (
        {"allOf": 5, "pattern": 5},
        {"properties": []},
        {"anyOf": [None, 5]},
        {"$ref": 5},
        {"items": [[]]},
    ):
        with pytest.raises(InvalidRequest):
            check_enforceable(schema, "p")
