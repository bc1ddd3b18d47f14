"""Functions that nobody has met: their names, parameters, and what a user says who wants one called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.fields import (
    Field,
    described,
    fields,
    listed,
    mentioned,
    object_schema,
    optional_fields,
    phrase,
    quoted,
    text_value,
)
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.tables import chart, query
from gpt_oss_triton.demo.corpus.vocables import parts_of_names, usual_or_strange, vocable
from gpt_oss_triton.demo.corpus.words import FIELDS, THINGS, VERBS
from gpt_oss_triton.wire import Tool

# What programmers go on with; to the model it is noise.
_DESCRIBED_ON = (" Use it for {x}.", "—use when you need {x}.", " It is {x}.", ": {x}", " ({x})")
_SMALL_WORDS = ("to", "by", "for", "of", "in", "from", "on", "with", "as")  # in the middle of a name
_STRANGE = 0.6  # share of the verbs and things that no program would have, where strange ones may be


@dataclass(frozen=True, slots=True)
class Wanted:
    """A function, what the user says, and the call that is right.

    Attributes:
        verb, thing: what is to be done, and with what: `cancel`, `ticket`.
        mentioned: the arguments as `text` says them.
    """

    tool: Tool
    verb: str
    thing: str
    mentioned: str
    text: str
    arguments: dict[str, Any]
    listed: str

    @property
    def traced(self) -> str:
        """The thing, and the word that the name begins with: `ticket cancel`. The name is found from the one to the other."""
        first = re.split("_|(?=[A-Z])", self.tool.name)[0]
        return self.thing if first == self.thing else f"{self.thing} {first}"


def wanted(draw: Draw, verb: str, thing: str, others: Sequence[str]) -> Wanted:
    """`others`: things of the other functions."""
    style = draw.random.random()
    name = _name(draw, verb, thing, others)
    description = _described(draw, verb, thing) if draw.chance(0.7) else ""
    words = {"v": verb, "V": verb.capitalize(), "t": thing, "T": thing.capitalize()}
    if style < 0.12:
        return Wanted(
            Tool(name, description, {"type": "object", "properties": {}}),
            verb,
            thing,
            "",
            phrased(draw, "functions", "ask_none").format(**words),
            {},
            "nothing",
        )
    if style < 0.42:
        chosen = [_single(draw, thing)]
        extra = optional_fields(draw, draw.number(1, 3), thing) if draw.chance(0.25) else []
        said = chosen[0].said
        is_text = " " in said or not said[-1].isalnum()
        asked = "ask_text" if said == chosen[0].value and is_text else "ask_one"
        text = phrased(draw, "functions", asked).format(x=said, **words)
    else:
        chosen, extra = fields(draw, draw.number(1, 3), thing), []
        if draw.chance(0.3):
            extra = optional_fields(draw, draw.number(1, 2), thing)
        said = mentioned(draw, chosen)
        text = phrased(draw, "functions", "ask_fields").format(m=said, **words)
    extra = [field for field in extra if field.name not in {one.name for one in chosen}]
    arguments = {field.name: field.value for field in chosen}
    tool = Tool(name, description, object_schema((*chosen, *extra), chosen))
    return Wanted(tool, verb, thing, said, text, arguments, listed(chosen))


def vaguely(draw: Draw, one: Wanted) -> str:
    """What a user might say instead, where no other function is offered."""
    (thing, verb), noise = (one.thing, one.verb), phrase(draw).rstrip(".!?。！？")
    asked = phrased(draw, "functions", "ask_vaguely").format(
        p=noise, t=thing, T=thing.capitalize(), v=verb, V=verb.capitalize()
    )
    said = one.mentioned
    if said in one.arguments.values():  # nothing else tells where it begins
        said = quoted(draw, said)
    return phrased(draw, "functions", "said_vaguely").format(a=asked, x=said) if said else asked


def about_rows(draw: Draw) -> Wanted:
    """A function that is the only one, so that the user need not say which."""
    verb, thing = draw.pick(VERBS), draw.pick(THINGS)
    asked = (query if draw.chance(0.5) else chart)(draw, thing)
    schema = object_schema(asked.parameters, asked.chosen)
    # Only what is written of it tells a thing that the user does not name from a verb.
    tool = Tool(_name(draw, verb, thing), _described(draw, verb, thing), schema)
    arguments = {field.name: field.value for field in asked.chosen}
    return Wanted(tool, verb, thing, asked.text, asked.text, arguments, listed(asked.chosen))


def several(draw: Draw, count: int) -> list[Wanted]:
    """Functions that differ in verb and thing."""
    # Most verbs begin their names, where any word is as good as one token.
    verbs = parts_of_names(draw, VERBS, count, _STRANGE, vocable)
    things = parts_of_names(draw, THINGS, count, _STRANGE)
    return [
        wanted(draw, verb, thing, [other for other in things if other != thing])
        for verb, thing in zip(verbs, things, strict=True)
    ]


def _described(draw: Draw, verb: str, thing: str) -> str:
    first = phrased(draw, "functions", "described").format(
        v=verb, V=verb.capitalize(), t=thing, T=thing.capitalize(), x=draw.pick(FIELDS)
    )
    return first + (draw.pick(_DESCRIBED_ON).format(x=phrase(draw)) if draw.chance(0.2) else "")


def _single(draw: Draw, thing: str) -> Field:
    name = thing if draw.chance(0.08) else usual_or_strange(draw, FIELDS, 0.5)  # `render_markdown(markdown)`
    text = said = text_value(draw)
    style = draw.random.random()
    if style < 0.5:
        text = said = phrase(draw)
        if style < 0.3:
            said = quoted(draw, text)
    schema: dict[str, Any] = {"type": "string"}
    if draw.chance(0.5):
        usual = f"The {name} to get the {thing} for"
        schema["description"] = usual if draw.chance(0.4) else described(draw, name, thing)
    return Field(name, name, schema, text, said)


def _name(draw: Draw, verb: str, thing: str, others: Sequence[str] = ()) -> str:
    style = draw.random.random()
    if style < 0.58:
        return f"{verb}_{thing}"
    if style < 0.62:
        return f"{verb}_{draw.pick(_SMALL_WORDS)}_{thing}"
    if style < 0.75:
        if others and draw.chance(0.2):  # the name of one thing in what is done with another
            middle = draw.random.choice(others)
        else:
            middle = usual_or_strange(draw, FIELDS, 1.0)
        return f"{verb}_{middle}_{thing}"
    return verb + thing.capitalize() if style < 0.9 else f"{thing}_{verb}"


def tools_of(draw: Draw, offered: Sequence[Wanted]) -> tuple[Tool, ...]:
    """In any order."""
    return tuple(one.tool for one in draw.random.sample(list(offered), len(offered)))
