"""Counting, and words repeated, reversed and picked."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import NAMES, NOUNS

_REPEAT = (
    "Repeat: {w}", "Repeat after me: {w}", "Say {w}", "Please say: {w}", "Copy this: {w}", "Echo {w}", "Write {w}", "Repeat this text: {w}",
    "Can you repeat {w}", "Say exactly this: {w}", "Type the words {w}", "Print {w}", "Write this: {w}", "Please repeat: {w}", "Say this: {w}", "Copy {w}", "Repeat the words {w}", "Please write {w}",
    "Write exactly {w}", "Repeat {w}", "Copy the text {w}", "Say the words {w}",
    "Say after me: {w}", "Now say {w}", "Tell me {w}", "Please copy: {w}", "Print this: {w}", "Output {w}", "Output this: {w}", "Answer with {w}", "Answer: {w}",
    "Reply with {w}", "Reply: {w}", "Echo this: {w}", "Type {w}", "Type this: {w}", "Give me back {w}", "The same again: {w}", "Just say {w}", "Only say: {w}",
    "Could you say {w}", "I want you to say {w}", "Let me hear {w}", "Show me {w}",
)  # fmt: skip
_REVERSE = (
    "Reverse the order: {w}", "Reverse these words: {w}", "Say backwards: {w}", "Turn around the order of these words: {w}",
    "Write these words in reverse order: {w}", "List from last to first: {w}", "Reverse this list: {w}", "Reverse {w}", "Please reverse: {w}", "Backwards: {w}", "Say these words backwards: {w}",
    "Turn around {w}", "Write backwards: {w}", "In reverse order: {w}",
    "Say {w} backwards", "Write {w} backwards.", "Write {w} in reverse order.", "From last to first: {w}", "The last word first: {w}", "Put these words in reverse order: {w}",
    "Can you reverse {w}", "Reverse the words {w}", "Reverse the list {w}", "These words backwards, please: {w}", "Turn this list around: {w}", "The other way round: {w}",
    "Begin with the last word: {w}", "Print backwards: {w}", "Now in reverse: {w}", "Repeat backwards: {w}",
)  # fmt: skip
_COUNT_WORDS = (
    "How many words are here: {w}", "Count the words: {w}", "How many words do you see? {w}", "Number of words in: {w}",
    "Count these: {w}", "How many words are in this list: {w}", "Count these words: {w}", "How many words are there? {w}", "How many are these: {w}",
    "Count the words in this list: {w}", "What is the number of words here: {w}",
    "Count: {w}", "How many words is this: {w}", "Can you count the words: {w}", "Please count these words: {w}", "Tell me how many words these are: {w}",
    "The number of words in {w}?", "How many words has this list: {w}", "Count how many words there are: {w}", "How many are there? {w}", "Tell me the number of words: {w}",
    "How many words did I write: {w}", "How long is this list of words: {w}", "Count all words in: {w}", "How many words follow: {w}", "I want the number of words: {w}",
)  # fmt: skip
_PLACED = (
    "What is the {n} word? {w}", "Give me the {n} word of: {w}", "Which word comes {n}? {w}", "Tell me the {n} word: {w}",
    "Pick the {n} word from: {w}", "The {n} word of: {w}", "Give me the {n} word: {w}", "Which word is {n}? {w}", "Pick the {n} of these: {w}",
    "Tell me which word comes {n}: {w}", "What is the {n} of these words: {w}", "Which is the {n} word of {w}", "Say the {n} word: {w}", "Name the {n} word: {w}",
    "Please pick the {n} word: {w}", "I want the {n} word of: {w}", "Take the {n} word: {w}", "{w}: what is the {n} word?", "Which word stands {n}: {w}", "Find the {n} word in {w}",
)  # fmt: skip
_TIMES = (
    "Say {w} {n} times.",
    "Repeat {w} {n} times.",
    "Write the word {w} {n} times.",
    "Please write {w} {n} times.",
    "{n} times {w}, please.",
    "Please say {w} {n} times.",
    "Write {w} {n} times.",
    "The word {w} {n} times, please.",
    "Say the word {w} {n} times.",
    "Repeat the word {w} {n} times.",
    "Can you say {w} {n} times?",
    "Print {w} {n} times.",
    "{w}, {n} times.",
    "I want to hear {w} {n} times.",
    "Type {w} {n} times, please.",
    "Give me {w} {n} times.",
    "{n} times the word {w}.",
)
_UP = ("Count from {a} to {b}.", "List the numbers from {a} to {b}.", "Count up from {a} to {b}.", "Numbers {a} to {b}", "Write the numbers {a} to {b}.",
       "Please count from {a} up to {b}.", "Count from {a} up to {b}.", "Count up: {a} to {b}", "From {a} to {b}, please count.",
       "List the numbers {a} to {b}.", "Write the numbers from {a} up to {b}.")  # fmt: skip
_DOWN = (
    "Count down from {b} to {a}.",
    "Count backwards from {b} to {a}.",
    "Give me a countdown from {b} to {a}.",
    "Go down from {b} to {a}.",
    "Count down: {b} to {a}",
    "Count down from {b} to {a}, please.",
    "Please count backwards from {b} down to {a}.",
    "A countdown from {b} to {a}, please.",
    "Go backwards from {b} to {a}.",
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_GROUPS = {
    "fruits": "apple, banana, cherry, mango, peach", "animals": "dog, cat, horse, cow, sheep", "colors": "red, blue, green, yellow, black",
    "vegetables": "carrot, potato, onion, tomato, pepper", "tools": "hammer, saw, drill, knife, brush", "drinks": "water, tea, coffee, milk, juice",
    "countries": "France, Italy, Japan, Brazil, Egypt", "planets": "Mercury, Venus, Earth, Mars, Jupiter", "metals": "iron, gold, silver, copper, lead",
    "clothes": "shirt, coat, hat, shoe, glove",
}  # fmt: skip
_GROUP_ASK = (
    "List {n} {g}.",
    "Name {n} {g}.",
    "Give me {n} {g}.",
    "Tell me {n} {g}.",
    "Can you name {n} {g}?",
    "{n} {g}, please.",
    "I need {n} {g}.",
    "Name me {n} {g}.",
    "Please list {n} {g}.",
    "Can you list {n} {g}?",
    "Tell me {n} {g}, please.",
)
_NUMBERS = ("one", "two", "three", "four", "five")


def copying(draw: Draw) -> Episode:
    words = _words(draw)
    joined = " ".join(words)
    if draw.chance(0.6):
        return _made(
            draw,
            "copying",
            phrased(draw, _REPEAT, usual=2).format(w=joined),
            joined,
            "Repeat the words.",
            f"There are {len(words)}.",
            f"They are: {joined}.",
        )
    turned = " ".join(reversed(words))
    placed = " ".join(f"{place} {word}" for place, word in enumerate(words, 1))
    return _made(
        draw, "reversing", phrased(draw, _REVERSE, usual=2).format(w=joined), turned, "Reverse the order.", f"In order: {placed}.", f"From the end: {turned}."
    )  # fmt: skip


def picking(draw: Draw) -> Episode:
    words = _words(draw)
    joined = " ".join(words)
    placed = " ".join(f"{place} {word}" for place, word in enumerate(words, 1))
    if draw.chance(0.5):
        text, count = phrased(draw, _COUNT_WORDS).format(w=joined), len(words)
        return _made(
            draw,
            "counting words",
            text,
            f"There are {count} words.",
            f"Count: {placed}.",
            f"So {count}.",
            f"The last number is {count}.",
        )
    place = draw.number(1, len(words))
    name = "last" if place == len(words) and draw.chance(0.5) else _ORDINALS[place - 1]
    text = phrased(draw, _PLACED).format(w=joined, n=name)
    final = f"The {name} word is {words[place - 1]}."
    return _made(
        draw,
        "picking",
        text,
        final,
        f"The {name}: {placed}.",
        f"It is number {place}.",
        f"That is {words[place - 1]}.",
    )


def times(draw: Draw) -> Episode:
    word, count = draw.pick(NOUNS) if draw.chance(0.5) else vocable(draw), draw.number(2, 5)
    said = _NUMBERS[count - 1] if draw.chance(0.5) else str(count)
    final = " ".join([word] * count)
    return _made(
        draw,
        "times",
        phrased(draw, _TIMES).format(w=word, n=said),
        final,
        f"{word}, {count} times.",
        "I count while I write.",
        "Then I stop.",
    )


def counting(draw: Draw) -> Episode:
    a, span = draw.pair((0, 80), (2, 12))
    b = a + span
    down = draw.chance(0.35)
    final = ", ".join(map(str, range(b, a - 1, -1) if down else range(a, b + 1)))
    text = phrased(draw, _DOWN if down else _UP).format(a=a, b=b)
    start, end = (b, a) if down else (a, b)
    return _made(
        draw,
        "counting",
        text,
        final,
        f"From {start} to {end}.",
        f"That is {'down' if down else 'up'}, one by one.",
        f"There are {span + 1} numbers.",
    )


def naming(draw: Draw) -> Episode:
    group, count = draw.shared(list(_GROUPS)), draw.number(1, 5)
    said = _NUMBERS[count - 1] if draw.chance(0.5) else str(count)
    final = ", ".join(_GROUPS[group].split(", ")[:count])
    text = phrased(draw, _GROUP_ASK).format(g=group, n=said)
    return _made(
        draw,
        "naming",
        text,
        final,
        f"{count} {group}.",
        "I name them one after the other.",
        f"Not more than {count}.",
    )


def _words(draw: Draw) -> list[str]:
    count = draw.number(2, 5)
    style = draw.random.random()
    if style < 0.4:
        return draw.picks(NOUNS, count)
    if style < 0.5:
        return draw.picks(NAMES, count)
    if style < 0.6:
        return [str(draw.number(0, 999)) for _ in range(count)]
    return [vocable(draw) for _ in range(count)]


def _made(draw: Draw, kind: str, text: str, final: str, short: str, work: str, check: str) -> Episode:
    effort = effort_of(draw)
    return Episode(kind, (Turn(text, thought(effort, short, work, check), final),), effort, has=(final,))
