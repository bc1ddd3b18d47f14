"""Functions that nobody has met: their names, parameters, and what a user says who wants one called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.fields import Field, fields, mentioned, object_schema, phrase, text_value
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, FIELDS, THINGS, VERBS
from gpt_oss_triton.wire import Tool

_DESCRIBED = (
    "{V} a {t}.", "{V} the {t}", "{V}s a {t}.", "Use this to {v} a {t}.", "{V} one {t}.", "Can {v} a {t}", "{V} {t}s", "A function to {v} the {t}.",
)  # fmt: skip
_ASK_FIELDS = (
    "{V} a {t} with {m}.", "Please {v} the {t}: {m}.", "{v} {t} {m}", "I want to {v} a {t}, {m}.", "Can you {v} a {t} with {m}?",
    "{V} the {t} where {m}.", "Could you {v} a {t}? Use {m}.", "I need you to {v} the {t}: {m}.", "{V} a {t}. Take {m}.", "With {m}, {v} a {t}.",
    "Let us {v} the {t}. Set {m}.", "You should {v} a {t} now, with {m}.",
)  # fmt: skip
_ASK_ONE = (
    "{V} the {t} for {x}.", "{V} the {t} of {x}", "Please {v} {t} {x}.", "What is the {t} for {x}?", "What's the {t} in {x}?", "{T} for {x}, please.",
    "Tell me the {t} of {x}.", "I need the {t} for {x}.", "{T}: {x}", "Can you {v} the {t} for {x}?", "How is the {t} in {x}?", "Show me the {t} of {x}.",
    "I want to {v} the {t} for {x}.", "Could you check the {t} for {x}?",
)  # fmt: skip
_ASK_NONE = (
    "{V} the {t}.", "Please {v} the {t}.", "{v} {t}", "I want to {v} the {t}.", "Can you {v} the {t}?", "{V} the {t} now, please.", "What is the {t}?",
    "How is the {t}?", "Time to {v} the {t}.", "The {t}, please.",
)  # fmt: skip

_STRANGE = 0.4  # share of the verbs and things that no program would have


@dataclass(frozen=True, slots=True)
class Wanted:
    """A function, what the user says, and the call that is right.

    Attributes:
        thing: what it is about: `ticket`.
    """

    tool: Tool
    thing: str
    text: str
    arguments: dict[str, Any]
    listed: str


def wanted(draw: Draw, verb: str, thing: str) -> Wanted:
    style = draw.random.random()
    name = _name(draw, verb, thing)
    described = draw.pick(_DESCRIBED).format(v=verb, V=verb.capitalize(), t=thing) if draw.chance(0.8) else ""
    words = {"v": verb, "V": verb.capitalize(), "t": thing, "T": thing.capitalize()}
    if style < 0.12:
        return Wanted(
            Tool(name, described, {"type": "object", "properties": {}}),
            thing,
            draw.pick(_ASK_NONE).format(**words),
            {},
            "nothing",
        )
    if style < 0.42:
        chosen, extra = [_single(draw, thing)], fields(draw, 1, thing) if draw.chance(0.25) else []
        text = draw.pick(_ASK_ONE).format(x=chosen[0].said, **words)
    else:
        chosen, extra = fields(draw, draw.number(1, 3), thing), []
        if len(chosen) > 1 and draw.chance(0.3):
            extra = [chosen.pop()]
        text = draw.pick(_ASK_FIELDS).format(m=mentioned(draw, chosen), **words)
    extra = [field for field in extra if field.name not in {one.name for one in chosen}]
    listed = ", ".join(f"{field.name} {json.dumps(field.value)}" for field in chosen)
    arguments = {field.name: field.value for field in chosen}
    return Wanted(Tool(name, described, object_schema(chosen, extra)), thing, text, arguments, listed)


def several(draw: Draw, count: int) -> list[Wanted]:
    """Functions that differ in verb and thing."""
    verbs, things = (
        [vocable(draw) if draw.chance(_STRANGE) else word for word in draw.picks(words, count)]
        for words in (VERBS, THINGS)
    )
    return [wanted(draw, verb, thing) for verb, thing in zip(verbs, things, strict=True)]


def result(draw: Draw, thing: str) -> tuple[str, str, tuple[str, ...]]:
    """What a function gave back as JSON, a sentence about it, and the words that the sentence must have."""
    style = draw.random.random()
    if style < 0.12:
        return '{"error":"not found"}', f"I am sorry, the {thing} was not found.", ("not found",)
    if style < 0.25:
        return '{"status":"ok"}', f"Done: the {thing} is ok.", ("ok",)
    keys = [thing] if draw.chance(0.4) else draw.picks(FIELDS, draw.number(1, 2))
    data = {key: _outcome(draw) for key in keys}
    parts = [f"{key} is {value}" for key, value in data.items()]
    return (
        json.dumps(data, separators=(",", ":")),
        f"The {' and the '.join(parts)}.",
        tuple(str(value) for value in data.values()),
    )


def _outcome(draw: Draw) -> str | int:
    style = draw.random.random()
    if style < 0.4:
        return draw.number(0, 999)
    return draw.pick(ADJECTIVES) if style < 0.7 else vocable(draw)


def _single(draw: Draw, thing: str) -> Field:
    name = draw.pick(FIELDS) if draw.chance(0.7) else vocable(draw)
    text = said = text_value(draw)
    if draw.chance(0.25):
        text = phrase(draw)
        said = draw.random.choice(("'{x}'", '"{x}"', "`{x}`")).format(x=text)
    schema: dict[str, Any] = {"type": "string"}
    if draw.chance(0.5):
        schema["description"] = f"The {name} to get the {thing} for"
    return Field(name, name, schema, text, said)


def _name(draw: Draw, verb: str, thing: str) -> str:
    style = draw.random.random()
    if style < 0.7:
        return f"{verb}_{thing}"
    return verb + thing.capitalize() if style < 0.9 else f"{thing}_{verb}"


def tools_of(draw: Draw, offered: Sequence[Wanted]) -> tuple[Tool, ...]:
    """In any order."""
    return tuple(one.tool for one in draw.random.sample(list(offered), len(offered)))
