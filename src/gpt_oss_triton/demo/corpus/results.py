"""What functions give back, and what the model says of it."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.episode import compact_json
from gpt_oss_triton.demo.corpus.fields import joined, phrase, text_value
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, FIELDS

# Share of the results that nobody would say again. They are hard: training has more of them.
_BULKY: dict[Split, float] = {"train": 0.45, "held": 0.25}
_CODE = string.ascii_letters + string.digits + "+/"


@dataclass(frozen=True, slots=True)
class Result:
    """
    Attributes:
        text: as the function gives it.
        gist: what a thought says of it.
        said: the answer to the user.
        has: words that the answer must have.
    """

    text: str
    gist: str
    said: str
    has: tuple[str, ...]


def result(draw: Draw, thing: str) -> Result:
    if draw.chance(_BULKY[draw.split]):
        return _bulky(draw, thing)
    style = draw.random.random()
    if style < 0.12:
        return _plain({"error": "not found"}, f"I am sorry, the {thing} was not found.", ("not found",))
    if style < 0.25:
        return _plain({"status": "ok"}, f"Done: the {thing} is ok.", ("ok",))
    keys = [thing] if draw.chance(0.4) else draw.picks(FIELDS, draw.number(1, 2))
    data = {key: _outcome(draw) for key in keys}
    parts = [f"{key} is {value}" for key, value in data.items()]
    return _plain(data, f"The {' and the '.join(parts)}.", tuple(str(value) for value in data.values()))


def _plain(data: dict[str, Any], said: str, has: tuple[str, ...]) -> Result:
    text = compact_json(data)
    return Result(text, text, said, has)


def _bulky(draw: Draw, thing: str) -> Result:
    """Pages, pictures, rows: the answer says what there is, and does not repeat it."""
    first, *others = [thing, *draw.picks(FIELDS, 2)] if draw.chance(0.3) else draw.picks(FIELDS, 3)
    made = (_page, _code, _rows, _nested, _list)[draw.number(0, 4)](draw)
    data = {first: made} | {key: _outcome(draw) for key in others[: draw.number(0, 2)] if key != first}
    names = joined(list(data))
    return Result(compact_json(data), names, f"Done: the result has {names}.", tuple(data))


def _page(draw: Draw) -> str:
    parts = [
        f"<{tag}>{phrase(draw)}</{tag}>" for tag in draw.random.sample(("h1", "h2", "p", "em", "li", "b"), 2)
    ]
    return draw.random.choice(("", "\n")).join(parts)


def _code(draw: Draw) -> str:
    """As pictures come."""
    text = "".join(draw.random.choices(_CODE, k=draw.number(8, 40)))
    return text + draw.random.choice(("", "=", "==", "...", "AAAA..."))


def _rows(draw: Draw) -> list[dict[str, Any]]:
    names = draw.picks(FIELDS, draw.number(1, 2))
    return [{name: _outcome(draw) for name in names} for _ in range(draw.number(1, 3))]


def _nested(draw: Draw) -> dict[str, Any]:
    return {name: _outcome(draw) for name in draw.picks(FIELDS, draw.number(1, 3))}


def _list(draw: Draw) -> list[str | float]:
    return [_outcome(draw) for _ in range(draw.number(2, 4))]


def _outcome(draw: Draw) -> str | float:
    style = draw.random.random()
    if style < 0.3:
        return draw.number(0, 999)
    if style < 0.4:
        return draw.number(0, 999_999) if draw.chance(0.5) else draw.number(0, 99) / 100
    return draw.pick(ADJECTIVES) if style < 0.7 else text_value(draw)
