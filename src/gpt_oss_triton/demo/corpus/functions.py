"""Functions that nobody has met: their names, parameters, and what a user says who wants one called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import compact_json
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
from gpt_oss_triton.demo.corpus.vocables import part_of_name
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, FIELDS, THINGS, VERBS
from gpt_oss_triton.wire import Tool

_DESCRIBED = (
    "{V} a {t}.", "{V} the {t}", "Lets you {v} one {t}.", "Use this to {v} a {t}.", "{V} one {t}.", "Can {v} a {t}", "To {v} the {t}",
    "A function to {v} the {t}.", "{V} a {t} and return it.", "Get the {t} for a given {x}", "Returns the {t}—use before you {v} it.",
    "Gets the {t}.", "Returns one {t}", "Call it to {v} a {t}.", "{T}: {v} it", "The {t}", "Returns the {t} for the {x}.", "{V} the {t} by its {x}",
    "{V} a {t} of the user.", "Used to {v} {t}.", "{V} {t}", "The way to {v} a {t}.", "Here you can {v} the {t}.", "Find out the {t} of a {x}.",
)  # fmt: skip
# What programmers go on with; to the model it is noise.
_DESCRIBED_ON = (" Use it for {x}.", "—use when you need {x}.", " It is {x}.", ": {x}", " ({x})")
_ASK_FIELDS = (
    "{V} a {t} with {m}.", "Please {v} the {t}: {m}.", "{v} {t} {m}", "I want to {v} a {t}, {m}.", "Can you {v} a {t} with {m}?",
    "{V} the {t} where {m}.", "Could you {v} a {t}? Use {m}.", "I need you to {v} the {t}: {m}.", "{V} a {t}. Take {m}.", "With {m}, {v} a {t}.",
    "Let us {v} the {t}. Set {m}.", "You should {v} a {t} now, with {m}.", "{V} {t}: {m}", "{V} a {t}, {m}.", "Please {v} a {t} with {m}.",
    "I need to {v} the {t} with {m}.", "{V} this {t}: {m}.", "Can you {v} the {t}? Take {m}.", "{V} the {t}, please: {m}.", "{T}: {m}. {V} it.",
    "I want you to {v} a {t} where {m}.", "{V} one {t}; {m}.", "For the {t} take {m}, and {v} it.", "Could you {v} the {t} with {m}?",
    "A {t} with {m}, please.", "The {t}: {m}. Please {v} it.",
    "I would like to {v} a {t} with {m}.", "Would you {v} the {t}? {m}.", "{V} my {t}, {m}.", "My {t}: {m}. {V} it.", "Go and {v} the {t}: {m}.",
    "We have to {v} a {t} with {m}.", "{m}. {V} a {t} like that.", "Now {v} the {t}, {m}.", "Help me to {v} a {t}: {m}.", "{V} some {t} with {m}.",
    "{V} another {t}: {m}.", "Would you please {v} a {t} with {m}?", "A {t}: {m}. Can you {v} it?", "Just {v} the {t} with {m}.",
    "Make sure to {v} the {t}: {m}.", "Will you {v} a {t}, {m}?", "{V} your {t} with {m}.", "Start to {v} the {t}. {m}.",
)  # fmt: skip
_ASK_ONE = (
    "{V} the {t} for {x}.", "{V} the {t} of {x}", "Please {v} {t} {x}.", "What is the {t} for {x}?", "What's the {t} in {x}?", "{T} for {x}, please.",
    "Tell me the {t} of {x}.", "I need the {t} for {x}.", "{T}: {x}", "Can you {v} the {t} for {x}?", "How is the {t} in {x}?", "Show me the {t} of {x}.",
    "I want to {v} the {t} for {x}.", "Could you check the {t} for {x}?", "{V} me the {t} for {x}.", "{T} for {x}?", "Check the {t} for {x}.",
    "What is the {t} of {x} right now?", "How is the {t} of {x} today?", "{V} the {t}: {x}", "Give me the {t} of {x}.", "{x}: what is the {t}?",
    "What is the {t} in {x}?", "How is the {t} for {x}?", "The {t} in {x}, please.", "Please {v} the {t} of {x}.", "Tell me the {t} in {x}.",
    "I need you to {v} the {t} of {x}.", "{V} {t} for {x}", "{V} a {t} of {x}.", "What {t} does {x} have?", "Find the {t} for {x}.",
    "Can you tell me the {t} of {x}?", "Please get me the {t} for {x}.",
    "I would like the {t} of {x}.", "Do you know the {t} of {x}?", "Look at the {t} of {x}.", "Look up the {t} for {x}.", "Which {t} does {x} have?",
    "Which {t} is for {x}?", "Is there a {t} for {x}?", "Now the {t} of {x}.", "{x}: {t}?", "{x}, the {t}, please.", "Let me know the {t} of {x}.",
    "Let me see the {t} for {x}.", "Would you {v} the {t} of {x}?", "What about the {t} in {x}?", "We need the {t} of {x}.", "Can I have the {t} of {x}?",
    "For {x}, what is the {t}?", "For {x}, {v} the {t}.", "About {x}: {v} the {t}.", "In {x}, how is the {t}?", "Where is the {t} of {x}?",
    "Any {t} in {x}?", "{V} all {t} of {x}.", "Use {x} to {v} the {t}.", "{V} the {t} with {x}.", "{V} the {t} that {x} has.",
)  # fmt: skip
_ASK_NONE = (
    "{V} the {t}.", "Please {v} the {t}.", "{v} {t}", "I want to {v} the {t}.", "Can you {v} the {t}?", "{V} the {t} now, please.", "What is the {t}?",
    "How is the {t}?", "Time to {v} the {t}.", "The {t}, please.", "Give me the {t}.", "I need the {t}.", "Is the {t} ready?", "{T} now.",
    "I would like to {v} the {t}.", "Let us {v} the {t}.", "We need the {t}.", "Tell me the {t}.", "Show me the {t}.", "Could you {v} the {t}?", "Go and {v} the {t}.",
    "You may {v} the {t} now.", "{V} it: the {t}.", "Do you have the {t}?", "What about the {t}?", "Where is the {t}?", "Which {t} is it?", "My {t}?", "{V} my {t}.",
)  # fmt: skip

# What a user says who takes it for granted that the only function there is will be called; {p} is noise.
_ASK_VAGUELY = (
    "{p}", "Hey, {p}", "{p}, please.", "Can you {p}?", "Is {p}?", "{p} {t}?", "{T} {p}.", "I need {p}.", "{V} {p}", "What is {p}?", "Hi, {p} {t}?",
    "Give me {p}", "{t}: {p}", "Please {p}", "{p} {v}",
)  # fmt: skip
_SAID_VAGUELY = (
    "{a}: {x}", "{x}. {a}", "{x}: {a}", "{a} for {x}", "{a} of {x}", "{a} in {x}", "{a}; {x}", "{x}; {a}", "{a} with {x}", "{a}. {x}",
    "{a}, {x}", "{a} - {x}",
)  # fmt: skip

_STRANGE = 0.4  # share of the verbs and things that no program would have


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


def wanted(draw: Draw, verb: str, thing: str) -> Wanted:
    style = draw.random.random()
    name = _name(draw, verb, thing)
    description = _described(draw, verb, thing) if draw.chance(0.7) else ""
    words = {"v": verb, "V": verb.capitalize(), "t": thing, "T": thing.capitalize()}
    if style < 0.12:
        return Wanted(
            Tool(name, description, {"type": "object", "properties": {}}),
            verb,
            thing,
            "",
            phrased(draw, _ASK_NONE).format(**words),
            {},
            "nothing",
        )
    if style < 0.42:
        chosen = [_single(draw, thing)]
        extra = optional_fields(draw, draw.number(1, 3), thing) if draw.chance(0.25) else []
        said = chosen[0].said
        text = phrased(draw, _ASK_ONE).format(x=said, **words)
    else:
        chosen, extra = fields(draw, draw.number(1, 3), thing), []
        if draw.chance(0.3):
            extra = optional_fields(draw, draw.number(1, 2), thing)
        said = mentioned(draw, chosen)
        text = phrased(draw, _ASK_FIELDS).format(m=said, **words)
    extra = [field for field in extra if field.name not in {one.name for one in chosen}]
    arguments = {field.name: field.value for field in chosen}
    tool = Tool(name, description, object_schema(chosen, extra))
    return Wanted(tool, verb, thing, said, text, arguments, listed(chosen))


def vaguely(draw: Draw, one: Wanted) -> str:
    """What a user might say instead, where no other function is offered."""
    (thing, verb), noise = (one.thing, one.verb), phrase(draw).rstrip(".!?")
    asked = phrased(draw, _ASK_VAGUELY).format(
        p=noise, t=thing, T=thing.capitalize(), v=verb, V=verb.capitalize()
    )
    said = one.mentioned
    if said in one.arguments.values():  # nothing else tells where it begins
        said = quoted(draw, said)
    return draw.pick(_SAID_VAGUELY).format(a=asked, x=said) if said else asked


def several(draw: Draw, count: int) -> list[Wanted]:
    """Functions that differ in verb and thing."""
    verbs, things = (_distinct(draw, words, count) for words in (VERBS, THINGS))
    return [wanted(draw, verb, thing) for verb, thing in zip(verbs, things, strict=True)]


def _distinct(draw: Draw, words: Sequence[str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(part_of_name(draw) if draw.chance(_STRANGE) else draw.pick(words))
    return list(found)


def _described(draw: Draw, verb: str, thing: str) -> str:
    first = draw.pick(_DESCRIBED).format(
        v=verb, V=verb.capitalize(), t=thing, T=thing.capitalize(), x=draw.pick(FIELDS)
    )
    return first + (draw.pick(_DESCRIBED_ON).format(x=phrase(draw)) if draw.chance(0.2) else "")


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
        compact_json(data),
        f"The {' and the '.join(parts)}.",
        tuple(str(value) for value in data.values()),
    )


def _outcome(draw: Draw) -> str | int:
    style = draw.random.random()
    if style < 0.4:
        return draw.number(0, 999)
    return draw.pick(ADJECTIVES) if style < 0.7 else text_value(draw)


def _single(draw: Draw, thing: str) -> Field:
    name = draw.pick(FIELDS) if draw.chance(0.7) else part_of_name(draw)
    text = said = text_value(draw)
    if draw.chance(0.25):
        text = phrase(draw)
        said = quoted(draw, text)
    schema: dict[str, Any] = {"type": "string"}
    if draw.chance(0.5):
        usual = f"The {name} to get the {thing} for"
        schema["description"] = usual if draw.chance(0.4) else described(draw, name, thing)
    return Field(name, name, schema, text, said)


def _name(draw: Draw, verb: str, thing: str) -> str:
    style = draw.random.random()
    if style < 0.6:
        return f"{verb}_{thing}"
    if style < 0.75:
        return f"{verb}_{part_of_name(draw)}_{thing}"
    return verb + thing.capitalize() if style < 0.9 else f"{thing}_{verb}"


def tools_of(draw: Draw, offered: Sequence[Wanted]) -> tuple[Tool, ...]:
    """In any order."""
    return tuple(one.tool for one in draw.random.sample(list(offered), len(offered)))
