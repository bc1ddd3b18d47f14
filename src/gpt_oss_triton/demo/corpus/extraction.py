"""A text's values as JSON, by a schema that the prompt brings."""

from __future__ import annotations

from typing import Any

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn, compact_json
from gpt_oss_triton.demo.corpus.fields import Field, fields, listed, mentioned, object_schema
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.words import CITIES, LIKES, NAMES, THINGS
from gpt_oss_triton.wire import ResponseFormat

_ASK = (
    "Extract the data: {m}.", "Fill in the form: {m}.", "{m}", "Here is the {t}: {m}.", "I have a {t} with {m}.", "Make JSON of this: {m}.",
    "The {t} has {m}.", "Read this and give me the fields: {m}.", "Convert to JSON: {m}.", "We got a {t}: {m}.", "Please note: {m}.",
    "Turn this into JSON. {m}", "Describe the {t}: {m}.", "This {t} comes with {m}.", "The {t}: {m}.", "Here are the fields: {m}.",
    "Please extract the fields: {m}.", "I got a {t} with {m}.", "We have a {t}: {m}.", "Read this: {m}.", "Take this {t}: {m}.", "Fill in: {m}",
    "Note the {t}: {m}.", "This is the {t}: {m}.", "Give me JSON for this: {m}.", "A {t} with {m}.", "Please read this {t}: {m}", "Extract: {m}",
    "What are the fields of this {t}? {m}.", "Parse this: {m}.", "Parse the {t}: {m}.", "Look at this {t}: {m}.", "There is a {t} with {m}.",
    "Somebody sent a {t}: {m}.", "It says: {m}.", "Give me the data of this {t}: {m}.", "{m}. As JSON, please.", "{m}. Extract that.",
    "From this text get the fields: {m}.", "Store this {t}: {m}.", "Write down: {m}.", "Answer with JSON: {m}", "They told me: {m}.",
    "I know of the {t}: {m}.", "Summarize the {t}: {m}.", "Our {t} has {m}.", "My {t}: {m}.", "New {t}: {m}.", "Next {t}, {m}.", "Get the data: {m}",
)  # fmt: skip
_PEOPLE = (
    "{name} is {age} years old and lives in {city}.", "{name} from {city} is {age}.", "My friend {name} lives in {city} and is {age} years old.",
    "{name}, {age}, {city}.", "At {age}, {name} moved to {city}.", "In {city} there lives {name}, who is {age}.", "I am {name}, {age}, from {city}.",
    "Meet {name} of {city}, {age} years old.", "The man is called {name}. He is {age} and comes from {city}.", "{name} lives in {city} and is {age}.",
    "{name} is {age} and lives in {city}.", "{name} is from {city}. She is {age} years old.", "In {city}, {name} is {age} years old.",
    "My name is {name}, I am {age} and live in {city}.", "I am {name} from {city} and {age} years old.", "{name} of {city} is {age}.",
    "This is {name}, {age}, of {city}.", "Here comes {name} from {city}, {age} years old.", "{name} ({age}) lives in {city}.", "{name} ({age}), {city}",
    "There is a woman of {age} in {city} who is called {name}.", "{name} is a man of {age} from {city}.", "{name}, who is {age}, comes from {city}.",
    "{age} years old is {name}, who lives in {city}.", "Born in {city}, {name} is {age} now.", "From {city} comes {name}, {age} years old.",
    "His name is {name}, he is {age} and works in {city}.", "Her name is {name}, she is {age} and was born in {city}.", "{name} turned {age} in {city}.",
    "In {city} I met {name}, who is {age} years old.", "{name} was born {age} years ago in {city}.", "Name: {name}. Age: {age}. City: {city}.",
    "A friend of mine, {name}, is {age} and lives in {city}.", "{city} is the home of {name}, aged {age}.", "We met {name} ({age}) in {city}.",
    "You know {name}? {age} years old, from {city}.", "The {age} year old {name} lives in {city}.", "{name}, aged {age}, is in {city}.",
    "I know {name} from {city}. He is {age}.", "{age}, {name}, {city}",
)  # fmt: skip
_HOBBIES = (
    "{name} likes {hobby} and lives in {city}.", "{name} from {city} loves {hobby}.", "In {city}, {name} enjoys {hobby}.",
    "My friend {name} does {hobby} in {city}.", "{hobby} is what {name} of {city} likes most.", "{name} lives in {city} and likes {hobby}.",
    "{name} of {city} likes {hobby}.", "In {city}, {name} likes {hobby}.", "{name} enjoys {hobby} in {city}.", "{name} lives in {city}. She loves {hobby}.",
    "I am {name} from {city} and like {hobby}.", "My name is {name}, I live in {city} and enjoy {hobby}.",
    "{name} of {city} enjoys {hobby}.", "{name} comes from {city} and loves {hobby}.", "From {city} comes {name}, who likes {hobby}.",
    "{name}, {city}, {hobby}", "Name: {name}. City: {city}. Hobby: {hobby}.", "In {city} I met {name}, who likes {hobby}.", "{name} is in {city} and does {hobby}.",
    "A friend of mine, {name} from {city}, enjoys {hobby}.", "{hobby} is the hobby of {name} in {city}.", "{city} is where {name} does {hobby}.",
    "Her name is {name}, she lives in {city} and likes {hobby}.", "His hobby is {hobby}. He is {name} from {city}.", "{name} ({city}) likes {hobby}.",
    "We know {name} from {city}, who loves {hobby}.", "{name} spends the day in {city} with {hobby}.",
)  # fmt: skip


def extraction(draw: Draw) -> Episode:
    if draw.chance(0.25):
        return _people(draw)
    thing = draw.pick(THINGS)
    chosen = fields(draw, draw.number(1, 4), thing)
    text = phrased(draw, _ASK).format(m=mentioned(draw, chosen), t=thing)
    return _asked(draw, text, chosen, thing)


def _people(draw: Draw) -> Episode:
    with_age = draw.chance(0.6)
    values: dict[str, Any] = {"name": draw.pick(NAMES), "city": draw.pick(CITIES)}
    values |= {"age": draw.number(1, 99)} if with_age else {"hobby": draw.pick(LIKES)}
    text = phrased(draw, _PEOPLE if with_age else _HOBBIES).format(**values)
    names = draw.random.sample(list(values), draw.number(2, 3))
    kinds = {name: "integer" if name == "age" else "string" for name in names}
    chosen = [Field(name, name, {"type": kinds[name]}, values[name], str(values[name])) for name in names]
    return _asked(draw, text, chosen, "person")


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
    wanted = ResponseFormat(thing, object_schema(chosen))
    return Episode("extraction", (Turn(text, analysis, final),), effort, data=data, response_format=wanted)
