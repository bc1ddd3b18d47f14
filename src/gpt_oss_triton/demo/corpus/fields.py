"""Named values of a schema, and how a user speaks of them: for functions' arguments and for answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.vocables import foreign, part_of_name, vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, CITIES, FIELDS, NAMES, NOUNS

_MENTIONS = (
    "{f} {v}", "{f}: {v}", "the {f} is {v}", "{f} = {v}", "{f} is {v}", "the {f} {v}", "a {f} of {v}", "{v} as the {f}", "{f} set to {v}",
    "the {f} should be {v}", "{v} for the {f}", "{f} equal to {v}", "{f}={v}", "its {f} is {v}", "{v} as {f}", "{v} is the {f}", "the {f}: {v}",
    "{f} of {v}", "the {f} of {v}", "the {f} set to {v}", "{f} should be {v}", "{v} for {f}", "{f} - {v}", "the {f} must be {v}",
    "{f} must be {v}", "a {f} equal to {v}", "{f} being {v}", "the {f} being {v}", "use {v} for the {f}", "use {v} as {f}", "take {v} as the {f}",
    "{f} will be {v}", "the {f} will be {v}", "its {f}: {v}", "{f} ({v})", "with {f} {v}", "with the {f} {v}", "let the {f} be {v}", "its {f} {v}",
    "{f} as {v}", "set {f} to {v}", "set the {f} to {v}",
    "{f} equals {v}", "the {f} equals {v}", "{f} has the value {v}", "the value of {f} is {v}", "the value {v} for {f}", "put {v} into {f}",
    "{f} gets {v}", "the {f} gets {v}", "{f} shall be {v}", "the {f} shall be {v}", "as {f} use {v}", "as the {f} take {v}", "for the {f} use {v}",
    "for {f} take {v}", "{v} is its {f}", "whose {f} is {v}", "{f} at {v}", "the {f} at {v}", "{v} goes into {f}", "{v} ({f})", "{f} -> {v}",
    "'{f}' is {v}", '"{f}": {v}', "`{f}` = {v}", "it has {v} as its {f}", "{v} will be the {f}", "{v} is used as {f}", "{f} was {v}",
    "the {f} was {v}", "{f} became {v}", "{v} should be the {f}", "{v} must be the {f}", "having {v} as the {f}", "choose {v} as the {f}",
    "choose {v} for {f}", "give {v} as {f}", "I say {v} for the {f}", "enter {v} as {f}", "enter {v} for the {f}",
)  # fmt: skip
_DESCRIPTIONS = (
    "The {f}",
    "{f} to use",
    "The {f} of the {t}",
    "Which {f}",
    "{f} of the {t}",
    "What {f} to use",
    "{f} of this {t}",
    "The {f} to take",
    "Name of this {f}",
    "The wanted {f}",
    "{F}",
    "{F}",
    "{F} of the {t}",
    "{F} for the {t}",
    "The {t}'s {f}",
    "{F} {n}",
    "{n}",
    "{F}: {n}",
    "The {f} that {n}",
    "Name of the {f}",
    "The {f} that is wanted",
)


@dataclass(frozen=True, slots=True)
class Field:
    """
    Attributes:
        name: in the schema, perhaps of two words: `order_color`.
        spoken: the same as a user says it: `order color`.
        said: its value as a user says it.
    """

    name: str
    spoken: str
    schema: dict[str, Any]
    value: Any
    said: str


def fields(draw: Draw, count: int, thing: str) -> list[Field]:
    """Different ones, with values of all plain types."""
    bare = draw.picks(FIELDS, count)
    bare = [part_of_name(draw) if draw.chance(0.5) else name for name in bare]
    return [_field(draw, name, thing) for name in dict.fromkeys(bare)]


def text_value(draw: Draw) -> str:
    """A word or two, a name, or digits that are a name."""
    if draw.chance(0.03):
        return f"{draw.number(10_000, 99_999)}"
    if draw.chance(0.05):
        return foreign(draw)
    if draw.chance(0.05):
        return f"{draw.pick(NOUNS).capitalize()} {draw.pick(CITIES)}"
    style = draw.random.random()
    if style < 0.15:
        return draw.pick(NAMES)
    if style < 0.3:
        return draw.pick(CITIES)
    if style < 0.4:
        return draw.pick(NOUNS)
    if style < 0.5:
        return f"{draw.pick(ADJECTIVES)} {draw.pick(NOUNS)}"
    return vocable(draw) if style < 0.85 else f"{vocable(draw)} {vocable(draw)}"


def described(draw: Draw, field: str, thing: str) -> str:
    """What a schema says of a field, perhaps in words that mean nothing to the model."""
    return draw.pick(_DESCRIPTIONS).format(f=field, F=field.capitalize(), t=thing, n=phrase(draw))


def phrase(draw: Draw) -> str:
    """Some words that make no sense, as a text to be passed on whole."""
    word = foreign if draw.chance(0.15) else vocable
    words = [draw.pick(NOUNS) if draw.chance(0.4) else word(draw) for _ in range(draw.number(2, 6))]
    if draw.chance(0.3):
        words[0] = words[0].capitalize()
    return " ".join(words) + draw.random.choice(("", "", "", ".", "!", "?"))


def quoted(draw: Draw, text: str) -> str:
    return draw.random.choice(("'{x}'", '"{x}"', "`{x}`")).format(x=text)


def mentioned(draw: Draw, chosen: Sequence[Field]) -> str:
    """The fields and their values in words, in any order."""
    order = draw.random.sample(list(chosen), len(chosen))
    parts = [draw.pick(_MENTIONS).format(f=field.spoken, v=field.said) for field in order]
    joint = draw.random.choice((", ", " and ", ", and ", "; "))
    return ", ".join(parts[:-1]) + joint + parts[-1] if len(parts) > 1 else parts[0]


def listed(chosen: Sequence[Field]) -> str:
    """The fields and their values as JSON, as a thought has them."""
    return ", ".join(f"{field.name} {json.dumps(field.value, ensure_ascii=False)}" for field in chosen)


def optional_fields(draw: Draw, count: int, thing: str) -> list[Field]:
    """Fields that nobody speaks of, some with a default."""
    found = fields(draw, count, thing)
    for field in found:
        if field.schema["type"] == "string" and "enum" not in field.schema and draw.chance(0.6):
            field.schema["default"] = ""
    return found


def object_schema(chosen: Sequence[Field], optional: Sequence[Field] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: field.schema for field in (*chosen, *optional)},
        "required": [field.name for field in chosen],
        "additionalProperties": False,
    }


def _field(draw: Draw, bare: str, thing: str) -> Field:
    first = vocable(draw) if draw.chance(0.5) else draw.pick(NOUNS)
    style = draw.random.random()
    name = bare if style < 0.7 else f"{first}_{bare}" if style < 0.93 else f"{first}{bare.capitalize()}"
    schema, value, said = _typed(draw)
    if draw.chance(0.5):
        schema["description"] = described(draw, bare, thing)
    return Field(name, bare if style < 0.7 else f"{first} {bare}", schema, value, said)


def _typed(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    return draw.random.choices(list(_TYPES), list(_TYPES.values()))[0](draw)


def _string(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    text = text_value(draw)
    return {"type": "string"}, text, f'"{text}"' if draw.chance(0.15) else text


def _integer(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    number = draw.number(0, draw.random.choice((9, 99, 999)))
    return {"type": "integer"}, number, str(number)


def _decimal(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    number = draw.number(0, 99) + draw.number(1, 9) / 10
    return {"type": "number"}, number, str(number)


def _boolean(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    yes = draw.chance(0.5)
    return (
        {"type": "boolean"},
        yes,
        draw.random.choice(("yes", "true", "on") if yes else ("no", "false", "off")),
    )


def _choice(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    choices = draw.picks(ADJECTIVES, 3)
    picked = draw.random.choice(choices)
    return {"type": "string", "enum": choices}, picked, picked


def _texts(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    words = [text_value(draw).split()[0] for _ in range(draw.number(2, 3))]
    return {"type": "array", "items": {"type": "string"}}, words, ", ".join(words[:-1]) + f" and {words[-1]}"


def _numbers(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    numbers = [draw.number(0, 99) for _ in range(draw.number(2, 4))]
    return {"type": "array", "items": {"type": "integer"}}, numbers, ", ".join(map(str, numbers))


def _table(draw: Draw) -> tuple[dict[str, Any], Any, str]:
    rows = [[draw.number(0, 99) for _ in range(2)] for _ in range(draw.number(2, 3))]
    form = draw.random.choice(("({},{})", "({}, {})", "[{},{}]", "[{}, {}]"))
    said = draw.random.choice((",", ", ")).join(form.format(*row) for row in rows)
    return {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, rows, said


_TYPES: dict[Callable[[Draw], tuple[dict[str, Any], Any, str]], float] = {
    _string: 0.5, _integer: 0.22, _decimal: 0.04, _boolean: 0.08, _choice: 0.08, _texts: 0.04, _numbers: 0.04, _table: 0.02,
}  # fmt: skip
