"""A text's values as JSON, by a schema that the prompt brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn, compact_json
from gpt_oss_triton.demo.corpus.fields import Field, fields, listed, mentioned, object_schema
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import filling, vocable
from gpt_oss_triton.demo.corpus.words import CITIES, LIKES, NAMES, THINGS
from gpt_oss_triton.wire import ResponseFormat

_STRANGE = 0.6  # share of the names, cities and hobbies that are none, where strange ones may be


def extraction(draw: Draw) -> Episode:
    if draw.chance(0.25):
        return _people(draw)
    thing = draw.pick(THINGS)
    chosen = fields(draw, draw.number(1, 4), thing)
    text = phrased(draw, "extraction", "ask").format(m=mentioned(draw, chosen), t=thing)
    return _asked(draw, text, chosen, thing)


def _people(draw: Draw) -> Episode:
    with_age = draw.chance(0.6)
    values: dict[str, Any] = {"name": _word(draw, NAMES), "city": _word(draw, CITIES)}
    values |= {"age": draw.number(1, 99)} if with_age else {"hobby": _word(draw, LIKES)}
    text = phrased(draw, "extraction", "people" if with_age else "hobbies").format(**values)
    names = draw.random.sample(list(values), draw.number(2, 3))
    kinds = {name: "integer" if name == "age" else "string" for name in names}
    chosen = [Field(name, name, {"type": kinds[name]}, values[name], str(values[name])) for name in names]
    return _asked(draw, text, chosen, "person")


def _word(draw: Draw, usual: Sequence[str]) -> str:
    return vocable(draw) if draw.strange and draw.chance(_STRANGE) else filling(draw, usual)


def _asked(draw: Draw, text: str, chosen: list[Field], thing: str) -> Episode:
    effort = effort_of(draw)
    data = {field.name: field.value for field in chosen}
    final = compact_json(data)
    analysis = thought(
        effort,
        f"The fields: {', '.join(field.name for field in chosen)}.",
        f"I read: {listed(chosen)}.",
        "That is all that the schema wants.",
    )
    wanted = ResponseFormat(thing, object_schema(chosen, chosen))
    return Episode("extraction", (Turn(text, analysis, final),), effort, data=data, response_format=wanted)
