"""The bounds of what functions' parameters become in a prompt. How they are written is in the goldens."""

from typing import Any

import pytest

from gpt_oss_triton.harmony.typescript import SchemaTooLarge, TypeWriter

TEXT = {"type": "string"}


def written_often(target: dict[str, Any]) -> dict[str, Any]:
    """5,000 times, by references."""
    columns = {f"c{n}": {"$ref": "#/$defs/cell"} for n in range(100)}
    return {
        "type": "object",
        "properties": {f"r{n}": {"$ref": "#/$defs/row"} for n in range(50)},
        "$defs": {"row": {"type": "object", "properties": columns}, "cell": target},
    }


def test_references_are_written_out() -> None:
    written = TypeWriter().parameter_type(written_often({**TEXT, "description": "A cell"}))
    assert written is not None
    assert written.count("    // A cell\n") == 5000


@pytest.mark.parametrize(
    "reference", ["#/properties/from/anyOf/0", "#/%24defs/a~1b", "#/$defs/list/prefixItems/0"]
)
def test_a_reference_may_lead_through_a_list_and_odd_names(reference: str) -> None:
    """They are the places that a grammar takes as well."""
    schema = {
        "type": "object",
        "properties": {"from": {"anyOf": [TEXT, {"type": "null"}]}, "to": {"$ref": reference}},
        "$defs": {"a/b": TEXT, "list": {"prefixItems": [TEXT]}},
    }
    assert "\nto?: string,\n" in (TypeWriter().parameter_type(schema) or "")


@pytest.mark.parametrize("reference", ["#/$defs", "#/$defs/none", "#/" + 5000 * "9", "#/~2", "x.json"])
def test_a_reference_to_nothing_says_nothing(reference: str) -> None:
    schema = {"type": "object", "properties": {"to": {"$ref": reference}}, "$defs": 1}
    assert "\nto?: any,\n" in (TypeWriter().parameter_type(schema) or "")


@pytest.mark.parametrize(
    "target",
    [
        {**TEXT, "description": "d" * 1000},
        {**TEXT, "title": "t" * 1000},
        {**TEXT, "examples": ["e" * 1000]},
        {**TEXT, "default": "d" * 1000},
        {**TEXT, "pattern": "p" * 1000},
        {"enum": ["e" * 1000]},
        {"const": "c" * 1000},
        {"type": "object", "properties": {"p" * 1000: TEXT}},
        {"oneOf": [{**TEXT, "description": "d" * 1000}]},
        {"type": "array", "items": {"enum": ["e" * 1000]}},
    ],
    ids=lambda target: ",".join(target),
)
def test_their_text_is_bounded(target: dict[str, Any]) -> None:
    with pytest.raises(SchemaTooLarge):
        TypeWriter().parameter_type(written_often(target))


@pytest.mark.parametrize(
    "target",
    [
        {"type": ["string"] * 1000},
        {"type": "string", "anyOf": [{}] * 1000},
        {"type": "string", **{f"unknown {n}": n for n in range(1000)}},
        {"$ref": "#" + 500 * "/a"},
    ],
    ids=["types", "members", "keywords", "path"],
)
def test_what_leaves_no_text_is_bounded_as_well(target: dict[str, Any]) -> None:
    with pytest.raises(SchemaTooLarge):
        TypeWriter().parameter_type(written_often(target))


def test_indents_count() -> None:
    """Each of the lines is as deep as the property."""
    schema: dict[str, Any] = {**TEXT, "description": "\n" * 20_000}
    for _ in range(25):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(SchemaTooLarge):
        TypeWriter().parameter_type(schema)


def test_the_bound_is_that_of_all_functions_of_a_prompt() -> None:
    writer = TypeWriter()
    schema = {"type": "object", "properties": {"a": {**TEXT, "description": "d" * 300_000}}}
    for _ in range(3):
        writer.parameter_type(schema)
    with pytest.raises(SchemaTooLarge):
        writer.parameter_type(schema)


def test_what_fills_the_longest_context_is_written() -> None:
    """With more than five characters a token."""
    writer = TypeWriter()
    property_of = {**TEXT, "description": "A word and another. " * 17}  # 340 characters
    schema = {"type": "object", "properties": {f"p{n}": property_of for n in range(16)}}
    written = [writer.parameter_type(schema) for _ in range(128)]
    assert sum(len(each or "") for each in written) > 131_072 * 5.5
