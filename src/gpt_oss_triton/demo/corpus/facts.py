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

# (questions, answer, table); `{k}` is the key, `{v}` the value
_RELATIONS = (
    (("What is the capital of {k}?", "Capital of {k}?", "Which city is the capital of {k}?", "Tell me the capital of {k}.",
      "Do you know the capital of {k}?", "{k}: what is its capital?", "Name the capital city of {k}.", "What's the capital of {k}?",
      "The capital of {k} is which city?", "Which city is the capital city of {k}?", "Can you name the capital of {k}?", "Please tell me the capital of {k}."),
     "The capital of {k} is {v}.", CAPITALS),
    (("{v} is the capital of which country?", "Which country has {v} as its capital?", "In which country is {v}?",
      "What country is {v} the capital of?", "Where is {v}?", "Of which country is {v} the capital?", "{v} is the capital of what?", "Tell me which country has {v} as its capital.", "Which country is {v} in?"),
     "{v} is the capital of {k}.", CAPITALS),
    (("What is the chemical symbol of {k}?", "Chemical symbol for {k}?", "Which symbol does {k} have?", "What's the symbol of {k}?",
      "Tell me the symbol for {k}.", "What is the symbol of {k}?", "Symbol of {k}?", "Give me the symbol of {k}.", "How is {k} written in chemistry?"),
     "The chemical symbol of {k} is {v}.", SYMBOLS),
    (("What colour is {k}?", "What color is {k}?", "What color does {k} have?", "Tell me the color of {k}.", "Which color is {k}?", "The color of {k}?", "Which colour does {k} have?", "Tell me the colour of {k}.", "What is the color of {k}?"),
     "The colour of {k} is {v}.", COLOURS),
    (("What sound does a {k} make?", "What does a {k} say?", "How does a {k} sound?", "Which sound does a {k} make?", "What is the sound of a {k}?", "Tell me the sound of a {k}.", "What does the {k} say?"),
     "A {k} {v}.", SOUNDS),
    (("What is the opposite of {k}?", "Opposite of {k}?", "What's the opposite of \"{k}\"?", "Name the opposite of {k}.", "Give me the opposite of {k}.", "Can you name the opposite of {k}?",
      "Which word is the opposite of {k}?", "Tell me the opposite of {k}."),
     "The opposite of {k} is {v}.", OPPOSITES),
    (("How many {k}?", "Can you tell me how many {k}?", "Do you know how many {k}?", "Tell me how many {k}.", "Please tell me how many {k}.", "Do you know: how many {k}?", "Question: how many {k}?"), "{v}.", COUNTS),
    (("Which day comes after {k}?", "What day follows {k}?", "Today is {k}. What day is tomorrow?", "What is the day after {k}?",
      "If today is {k}, what is tomorrow?"),
     "The day after {k} is {v}.", NEXT),
)  # fmt: skip


def facts(draw: Draw) -> Episode:
    effort = effort_of(draw)
    weights = [len(table) * (len(questions) + 4) for questions, _, table in _RELATIONS]
    questions, answer, table = draw.random.choices(_RELATIONS, weights)[0]
    key = draw.shared(list(table))
    final = answer.format(k=key, v=table[key])
    analysis = thought(
        effort,
        "A question about a fact.",
        f"I know: {key}, {table[key]}.",
        "I am sure of it. A short sentence is enough.",
    )
    has = key if "{v}" in questions[0] else table[key]
    return Episode(
        "facts",
        (Turn(phrased(draw, questions, usual=1).format(k=key, v=table[key]), analysis, final),),
        effort,
        has=(has,),
    )
