"""Requests about rows of data: some columns of a table, or a picture of numbers. What the parameters are called says nothing:
what they hold tells which is which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.fields import Field, described, joined, mentioned
from gpt_oss_triton.demo.corpus.phrasing import PHRASES, phrased, words_of
from gpt_oss_triton.demo.corpus.vocables import parts_of_names, usual_or_strange, vocable
from gpt_oss_triton.demo.corpus.words import FIELDS, NOUNS

_STRANGE = 0.5  # share of the parameters' names that no program would have, where strange ones may be
_TEXT = {"type": "string"}
_SIGNS = (".", "", ", please.", "?")
_POINT_FORMS = ("({x},{y})", "({x}, {y})", "[{x},{y}]", "[{x}, {y}]")


@dataclass(frozen=True, slots=True)
class Request:
    """
    Attributes:
        parameters: those of the function.
        chosen: those of them that `text` gives a value.
    """

    text: str
    parameters: list[Field]
    chosen: list[Field]


def query(draw: Draw, thing: str) -> Request:
    """`Give me id and price from orders, limit 5`."""
    source, columns, limit, condition, order = parts_of_names(draw, FIELDS, 5, _STRANGE)
    table, key, value, *wanted = _words(draw, 3 + draw.random.choice((1, 2, 2, 2, 3)))
    columns_said = ", ".join(wanted) if draw.chance(0.2) else joined(wanted)
    text = phrased(draw, "tables", "columns", hurried=False).format(c=columns_said, s=table)
    chosen = [
        _field(draw, source, thing, _TEXT, table),
        _field(draw, columns, thing, {"type": "array", "items": _TEXT}, wanted),
    ]
    optional: list[Field] = []

    def perhaps(field: Field, told: float, there: float, joints: tuple[str, ...], phrase: str) -> None:
        """A parameter that the user may give a value; `there`: also without one."""
        nonlocal text
        style = draw.random.random()
        if style < told:
            chosen.append(field)
            text += draw.random.choice(joints) + phrase
        elif style < there:
            optional.append(field)

    value = value.capitalize() if draw.chance(0.3) else value
    where = phrased(draw, "tables", "where", hurried=False).format(k=key, v=value)
    usual = {**_TEXT, "default": ""}
    perhaps(_field(draw, condition, thing, usual, f"{key} = '{value}'"), 0.4, 0.8, (" ", ", "), where)
    by = phrased(draw, "tables", "order", hurried=False).format(k=wanted[-1])
    perhaps(_field(draw, order, thing, usual, wanted[-1]), 0.2, 0.3, (" ", ", "), by)
    most = draw.number(1, 20)
    field = _field(draw, limit, thing, {"type": "integer", "default": 100}, most)
    at_most = phrased(draw, "tables", "limit", hurried=False).format(n=most)
    perhaps(field, 0.4, 0.8, (", ", ", ", " - ", "; "), at_most)
    return _request(draw, text, chosen, optional)


def chart(draw: Draw, thing: str) -> Request:
    """`Plot a line chart of (1,2), (2,5)`; where there are only values, they are counted."""
    data, kind, *labels = parts_of_names(draw, FIELDS, draw.number(2, 4), _STRANGE)
    first, second, third, subject, *labelled = _words(draw, 4 + len(labels))
    ys = [_number(draw) for _ in range(draw.number(2, 4))]
    if draw.chance(0.5):
        xs = [draw.number(0, 9) for _ in ys]
        form, joint = draw.random.choice(_POINT_FORMS), draw.random.choice((",", ", "))
        said = joint.join(form.format(x=x, y=y) for x, y in zip(xs, ys, strict=True))
        said = draw.random.choice(("{}", "{}", "[{}]", "[ {} ]")).format(said)
    else:
        xs = list(range(1, len(ys) + 1))
        said = draw.random.choice((",", ", ")).join(map(str, ys))
    text = phrased(draw, "tables", "chart", hurried=False).format(k=second, d=said, x=subject)
    points = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    kinds = draw.random.sample((first, second, third), 3)
    chosen = [
        _field(draw, data, thing, points, [list(point) for point in zip(xs, ys, strict=True)]),
        _field(draw, kind, thing, {**_TEXT, "enum": kinds}, second),
    ]
    usual = {**_TEXT, "default": ""}
    optional = [_field(draw, label, thing, usual, word) for label, word in zip(labels, labelled, strict=True)]
    if optional and draw.chance(0.4):
        told = optional.pop()
        chosen.append(told)
        text += draw.random.choice((" ", ", ")) + mentioned(draw, [told])
    return _request(draw, text, chosen, optional)


def _request(draw: Draw, text: str, chosen: list[Field], optional: list[Field]) -> Request:
    """Parameters with a default are the last ones, in any order: a call may have the second of them without the first."""
    needed = [field for field in chosen if "default" not in field.schema]
    usual = [field for field in (*chosen, *optional) if "default" in field.schema]
    parameters = [*needed, *draw.random.sample(usual, len(usual))]
    return Request(
        text + draw.random.choice(_SIGNS), parameters, [field for field in parameters if field in chosen]
    )


def _words(draw: Draw, count: int) -> list[str]:
    """Different ones, some of two words, none that the phrases around them are made of."""
    words: dict[str, None] = {}
    while len(words) < count:
        word = usual_or_strange(draw, NOUNS, 0.7, vocable)
        if draw.chance(0.15):
            word += f"_{usual_or_strange(draw, FIELDS, 1.0)}"
        if word not in _spoken():
            words.setdefault(word)
    return list(words)


@cache
def _spoken() -> frozenset[str]:
    lists = (phrases for (section, _), phrases in PHRASES.items() if section == "tables")
    return frozenset().union(*map(words_of, lists))


def _number(draw: Draw) -> float:
    size = draw.random.choice((9, 99, 999))
    return draw.number(0, size) if draw.chance(0.85) else draw.number(0, size) + draw.number(1, 9) / 10


def _field(draw: Draw, bare: str, thing: str, schema: dict[str, Any], value: Any) -> Field:
    first = draw.pick(NOUNS) if draw.chance(0.2) else ""
    if draw.chance(0.5):
        schema = {**schema, "description": described(draw, bare, thing)}
    name, spoken = (f"{first}_{bare}", f"{first} {bare}") if first else (bare, bare)
    return Field(name, spoken, schema, value, str(value))
