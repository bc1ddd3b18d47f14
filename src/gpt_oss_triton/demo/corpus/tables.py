"""Requests about rows of data: some columns of a table, or a picture of numbers. What the parameters are called says nothing,
but for some in training: what they hold tells which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.fields import Field, described, joined, mentioned, quoted
from gpt_oss_triton.demo.corpus.phrasing import PHRASES, phrased, words_of
from gpt_oss_triton.demo.corpus.vocables import parts_of_names, usual_or_strange, vocable
from gpt_oss_triton.demo.corpus.words import FIELDS, NOUNS

_STRANGE = 0.5  # share of the parameters' names that no program would have, where strange ones may be
_TELLING = 0.3  # share of the training's functions whose parameters are called what they are
_QUERY_NAMES = (
    ("table", "source", "file"), ("columns", "fields", "select"), ("limit", "count", "most"), ("filters", "filter", "condition"),
    ("order_by", "sort_by", "order"),
)  # fmt: skip
_TITLES = ("title", "caption", "heading")
_CHART_NAMES = (
    ("data", "values", "numbers"), ("chart_type", "kind", "style"), _TITLES, ("x_label", "x_name"), ("y_label", "y_name"),
)  # fmt: skip
TELLING_NAMES = (*_QUERY_NAMES, *_CHART_NAMES)
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
    source, columns, limit, condition, order = _names(draw, 5, _QUERY_NAMES)
    table, key, value, *wanted = _words(draw, 3 + draw.random.choice((1, 2, 2, 2, 3)))
    key = draw.random.choice(wanted) if draw.chance(0.25) else key
    columns_said = ", ".join(wanted) if draw.chance(0.2) else joined(wanted)
    most = draw.number(1, 20)
    counted = draw.chance(0.15)  # "the first 3 …"
    form = phrased(draw, "tables", "rows" if counted else "columns", hurried=False)
    text = form.format(c=columns_said, s=table, n=most)
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
    field = _field(draw, limit, thing, {"type": "integer", "default": 100}, most)
    if counted:
        chosen.append(field)
    else:
        at_most = phrased(draw, "tables", "limit", hurried=False).format(n=most)
        perhaps(field, 0.4, 0.8, (", ", ", ", " - ", "; "), at_most)
    return _request(draw, text, chosen, optional)


def chart(draw: Draw, thing: str) -> Request:
    """`Plot a line chart of (1,2), (2,5)`; where there are only values, they are counted."""
    data, kind, *labels = _names(draw, draw.number(2, 5), _CHART_NAMES)
    first, second, third, subject, *labelled = _words(draw, 4 + len(labels))
    drawn, said = _points(draw)
    points = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    kinds = draw.random.sample((first, second, third), 3)
    chosen = [
        _field(draw, data, thing, points, drawn),
        _field(draw, kind, thing, {**_TEXT, "enum": kinds}, second),
    ]
    optional = [_label(draw, label, thing, word) for label, word in zip(labels, labelled, strict=True)]
    told = draw.random.sample(optional, draw.number(1, len(optional)) if optional and draw.chance(0.5) else 0)
    style = draw.random.random()
    if told and style < 0.5:
        form = phrased(draw, "tables", "labelled", hurried=False)
        text = form.format(k=second, d=said, m=_labelling(draw, told))
    else:
        text = phrased(draw, "tables", "chart", hurried=False).format(k=second, d=said, x=subject)
        if style < 0.2:
            text += " " + phrased(draw, "tables", "over", hurried=False).format(x=subject)
        if told:
            text += draw.random.choice((" ", ", ", " with ", ", with ", "; ")) + _labelling(draw, told)
    return _request(draw, text, chosen + told, [field for field in optional if field not in told])


def _points(draw: Draw) -> tuple[list[list[float]], str]:
    """Each as [x, y], and as the user says them."""
    ys = [_number(draw) for _ in range(draw.number(2, 4))]
    if draw.chance(0.5):
        numbered = [[x, y] for x, y in enumerate(ys, 1)]
        return numbered, draw.random.choice((",", ", ")).join(map(str, ys))
    drawn = [[draw.number(0, 9), y] for y in ys]
    form, joint = draw.random.choice(_POINT_FORMS), draw.random.choice((",", ", "))
    said = joint.join(form.format(x=x, y=y) for x, y in drawn)
    return drawn, draw.random.choice(("{}", "{}", "[{}]", "[ {} ]")).format(said)


def _label(draw: Draw, bare: str, thing: str, word: str) -> Field:
    field = _field(
        draw, bare, thing, {**_TEXT, "default": ""}, word.capitalize() if draw.chance(0.3) else word
    )
    return replace(field, said=quoted(draw, field.said)) if draw.chance(0.3) else field


def _labelling(draw: Draw, told: list[Field]) -> str:
    """`x label Day, the title is 'Sales'`; a title may be told by other words."""
    title = [field for field in told if field.name in _TITLES]
    others = [field for field in told if field not in title]
    if not title or draw.chance(0.3):
        return mentioned(draw, told)
    text = phrased(draw, "tables", "titles", hurried=False).format(v=title[0].said)
    return text + draw.random.choice((" and ", ", ", " with ")) + mentioned(draw, others) if others else text


def _request(draw: Draw, text: str, chosen: list[Field], optional: list[Field]) -> Request:
    """Parameters with a default are the last ones, in any order: a call may have the second of them without the first."""
    needed = [field for field in chosen if "default" not in field.schema]
    usual = [field for field in (*chosen, *optional) if "default" in field.schema]
    parameters = [*needed, *draw.random.sample(usual, len(usual))]
    return Request(
        text + draw.random.choice(_SIGNS), parameters, [field for field in parameters if field in chosen]
    )


def _names(draw: Draw, count: int, telling: Sequence[Sequence[str]]) -> list[str]:
    """Of the parameters. Names that tell what they are for cannot be held out, so the examination has none."""
    if draw.split == "train" and draw.chance(_TELLING):
        return [draw.random.choice(names) for names in telling[:count]]
    return parts_of_names(draw, FIELDS, count, _STRANGE)


def _words(draw: Draw, count: int) -> list[str]:
    """Different ones, some of two words, none that the phrases around them are made of."""
    words: dict[str, None] = {}
    while len(words) < count:
        word = usual_or_strange(draw, NOUNS if draw.chance(0.6) else FIELDS, 0.6, vocable)
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
    return draw.number(0, size) if draw.chance(0.75) else draw.number(0, size) + draw.number(1, 9) / 10


def _field(draw: Draw, bare: str, thing: str, schema: dict[str, Any], value: Any) -> Field:
    first = draw.pick(NOUNS) if draw.chance(0.2) else ""
    if draw.chance(0.5):
        schema = {**schema, "description": described(draw, bare, thing)}
    name = f"{first}_{bare}" if first else bare
    return Field(name, name.replace("_", " "), schema, value, str(value))
