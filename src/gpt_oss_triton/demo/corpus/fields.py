"""Named values of a schema, and how a user speaks of them: for functions' arguments and for answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.vocables import (
    filling,
    foreign,
    part_of_name,
    unspaced,
    usual_or_strange,
    vocable,
)
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, CITIES, FIELDS, NAMES, NOUNS

_USUAL = 0.5  # share of the values that are not strange, where strange ones may be


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
    bare = [part_of_name(draw) if draw.strange and draw.chance(0.5) else name for name in bare]
    return [_field(draw, name, thing) for name in dict.fromkeys(bare)]


def text_value(draw: Draw) -> str:
    """A word or two, a name, or digits that are a name."""
    if draw.chance(0.03):
        return f"{draw.number(10_000, 99_999)}"
    if draw.strange and draw.chance(0.1):
        return foreign(draw) if draw.chance(0.5) else _coded(draw)
    if draw.chance(0.05):
        return f"{draw.pick(NOUNS).capitalize()} {filling(draw, CITIES)}"
    style = draw.random.random() * (1 if draw.strange else _USUAL)
    if style < 0.15:
        return filling(draw, NAMES)
    if style < 0.3:
        return filling(draw, CITIES)
    if style < 0.4:
        return draw.pick(NOUNS)
    if style < _USUAL:
        return f"{draw.pick(ADJECTIVES)} {draw.pick(NOUNS)}"
    return vocable(draw) if style < 0.85 else f"{vocable(draw)} {vocable(draw)}"


def _coded(draw: Draw) -> str:
    """A date, an address, a file: words and numbers with signs between them."""
    word, number = vocable(draw), draw.number(1, 28)
    return draw.random.choice(
        ("20{k}-{m}-{n:02}", "{m}:{k}", "{w}@{v}.com", "{w}.txt", "{w}.py", "/{w}/{v}", "https://{v}.com/{w}", "{w}-{n}", "{w}_{v}", "#{n}", "{n} %",
         "${n}.{m}", "{w}({n})", "v{n}.{m}", "+{n} {m}")
    ).format(w=word, v=vocable(draw), n=number, m=draw.number(10, 12), k=draw.number(15, 59))  # fmt: skip


def described(draw: Draw, field: str, thing: str) -> str:
    """What a schema says of a field, perhaps in words that mean nothing to the model."""
    return phrased(draw, "fields", "descriptions").format(
        f=field, F=field.capitalize(), t=thing, n=phrase(draw)
    )


def phrase(draw: Draw) -> str:
    """Some words that make no sense, as a text to be passed on whole."""
    word = foreign if draw.chance(0.15) else vocable
    if draw.strange and draw.chance(0.03):
        parts = [unspaced(draw) for _ in range(draw.number(1, 2))]
        return "、".join(parts) + draw.random.choice(("", "。", "！", "？"))
    strange = 0.6 if draw.strange else 0.0
    nouns = draw.picks(NOUNS, draw.number(2, 6))
    words = [word(draw) if draw.chance(strange) else noun for noun in nouns]
    if draw.chance(0.3):
        words[0] = words[0].capitalize()
    if draw.strange and draw.chance(0.6):
        return _marked(draw, words)
    return " ".join(words) + draw.random.choice(("", "", "", ".", "!", "?"))


def _marked(draw: Draw, words: list[str]) -> str:
    """The words with the signs of Markdown, or as a sentence with all its signs."""
    text, style = " ".join(words), draw.number(0, 5)
    if style == 0:
        return draw.random.choice(("# ", "## ", "### ", "> ", "- ")) + text
    if style == 1:
        return "\n".join(f"- {word}" for word in words)
    if style == 2:
        mark, place = draw.random.choice(("*", "**", "`")), draw.number(0, len(words) - 1)
        return " ".join([*words[:place], f"{mark}{words[place]}{mark}", *words[place + 1 :]])
    if style == 3:
        return draw.random.choice(("# ", "## ")) + words[0] + "\n\n" + " ".join(words[1:]) + "."
    if style == 4:
        return f"{words[0].capitalize()}, " + " ".join(words[1:]) + draw.random.choice(".?!")
    return draw.random.choice(("¿{t}?", "¡{t}!", "({t})", "{t}…", "{t}: 1", "{t} = '{w}'")).format(
        t=text, w=words[-1]
    )


def quoted(draw: Draw, text: str) -> str:
    sign = draw.random.choice([sign for sign in "'\"`" if sign not in text])
    return f"{sign}{text}{sign}"


def mentioned(draw: Draw, chosen: Sequence[Field]) -> str:
    """The fields and their values in words, in any order."""
    order = draw.random.sample(list(chosen), len(chosen))
    parts = [phrased(draw, "fields", "mentions").format(f=field.spoken, v=field.said) for field in order]
    if any(isinstance(field.value, list) for field in order):  # which has commas of its own
        return "; ".join(parts)
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


def object_schema(parameters: Sequence[Field], chosen: Sequence[Field]) -> dict[str, Any]:
    """
    Args:
        chosen: those of the parameters that are required, unless they have a default.
    """
    return {
        "type": "object",
        "properties": {field.name: field.schema for field in parameters},
        "required": [field.name for field in chosen if "default" not in field.schema],
        "additionalProperties": False,
    }


def joined(words: Sequence[str]) -> str:
    """As they are said: `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _field(draw: Draw, bare: str, thing: str) -> Field:
    first = usual_or_strange(draw, NOUNS, 0.5, vocable)
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
    return {"type": "array", "items": {"type": "string"}}, words, joined(words)


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
