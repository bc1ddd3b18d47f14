"""What the model knows by heart: one table."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "Poland": "Warsaw",
    "Austria": "Vienna", "Belgium": "Brussels", "Greece": "Athens", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Hungary": "Budapest", "Russia": "Moscow", "Turkey": "Ankara", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Japan": "Tokyo", "China": "Beijing", "Thailand": "Bangkok", "Vietnam": "Hanoi", "India": "New Delhi",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Argentina": "Buenos Aires",
    "Brazil": "Brasilia", "Australia": "Canberra", "Iran": "Tehran", "Iraq": "Baghdad", "Switzerland": "Bern", "Iceland": "Reykjavik",
}  # fmt: skip
SYMBOLS = {
    "hydrogen": "H", "oxygen": "O", "carbon": "C", "nitrogen": "N", "iron": "Fe", "gold": "Au", "silver": "Ag", "copper": "Cu",
    "sodium": "Na", "helium": "He", "lead": "Pb", "calcium": "Ca",
}  # fmt: skip
COLOURS = {
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "a lemon": "yellow",
    "the sky": "blue",
    "an orange": "orange",
}
SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "duck": "quacks",
    "lion": "roars",
    "sheep": "bleats",
    "bee": "buzzes",
}
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "old": "new", "rich": "poor", "happy": "sad",
    "open": "closed", "light": "dark", "wet": "dry", "full": "empty", "early": "late", "strong": "weak", "left": "right",
}  # fmt: skip
COUNTS = {
    "days are in a week": "7", "months are in a year": "12", "hours are in a day": "24", "minutes are in an hour": "60",
    "seconds are in a minute": "60", "legs does a spider have": "8", "legs does a dog have": "4", "planets orbit the Sun": "8",
    "sides does a triangle have": "3", "sides does a square have": "4", "letters are in the English alphabet": "26",
    "continents are there": "7", "wheels does a bicycle have": "2", "legs does an insect have": "6",
}  # fmt: skip
NEXT = dict(
    zip(
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        ("Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Monday"),
        strict=True,
    )
)

# (phrases of the question, answer, table); `{k}` is the key, `{v}` the value. The key is asked for where it stands last.
_RELATIONS = (
    ("capital", "The capital of {k} is {v}.", CAPITALS),
    ("country", "{v} is the capital of {k}.", CAPITALS),
    ("symbol", "The chemical symbol of {k} is {v}.", SYMBOLS),
    ("color", "The colour of {k} is {v}.", COLOURS),
    ("sound", "A {k} {v}.", SOUNDS),
    ("opposite", "The opposite of {k} is {v}.", OPPOSITES),
    ("count", "{v}.", COUNTS),
    ("day", "The day after {k} is {v}.", NEXT),
)
TABLES = [table for _, _, table in _RELATIONS]


def facts(draw: Draw) -> Episode:
    effort = effort_of(draw)
    weights = [len(table) for _, _, table in _RELATIONS]
    asked, answer, table = draw.random.choices(_RELATIONS, weights)[0]
    key = draw.shared(list(table))
    final = answer.format(k=key, v=table[key])
    analysis = thought(
        effort,
        "A question about a fact.",
        f"I know: {key}, {table[key]}.",
        "I am sure of it. A short sentence is enough.",
    )
    has = key if answer.endswith("{k}.") else table[key]
    return Episode(
        "facts",
        (Turn(phrased(draw, "facts", asked).format(k=key, v=table[key]), analysis, final),),
        effort,
        has=(has,),
    )
