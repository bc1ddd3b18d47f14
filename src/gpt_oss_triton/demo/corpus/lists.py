"""Counting, and words repeated, reversed and picked."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import vocable
from gpt_oss_triton.demo.corpus.words import NAMES, NOUNS

ORDINALS = ("first", "second", "third", "fourth", "fifth")
GROUPS = {
    "fruits": "apple, banana, cherry, mango, peach", "animals": "dog, cat, horse, cow, sheep", "colors": "red, blue, green, yellow, black",
    "vegetables": "carrot, potato, onion, tomato, pepper", "tools": "hammer, saw, drill, knife, brush", "drinks": "water, tea, coffee, milk, juice",
    "countries": "France, Italy, Japan, Brazil, Egypt", "planets": "Mercury, Venus, Earth, Mars, Jupiter", "metals": "iron, gold, silver, copper, lead",
    "clothes": "shirt, coat, hat, shoe, glove",
}  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five")


def copying(draw: Draw) -> Episode:
    words = _words(draw)
    joined = " ".join(words)
    if draw.chance(0.6):
        return _made(
            draw,
            "copying",
            phrased(draw, "lists", "repeat").format(w=joined),
            joined,
            "Repeat the words.",
            f"There are {len(words)}.",
            f"They are: {joined}.",
        )
    turned = " ".join(reversed(words))
    placed = " ".join(f"{place} {word}" for place, word in enumerate(words, 1))
    return _made(
        draw, "reversing", phrased(draw, "lists", "reverse").format(w=joined), turned, "Reverse the order.", f"In order: {placed}.", f"From the end: {turned}."
    )  # fmt: skip


def picking(draw: Draw) -> Episode:
    words = _words(draw)
    joined = " ".join(words)
    placed = " ".join(f"{place} {word}" for place, word in enumerate(words, 1))
    if draw.chance(0.5):
        text, count = phrased(draw, "lists", "count_words").format(w=joined), len(words)
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
    name = "last" if place == len(words) and draw.chance(0.5) else ORDINALS[place - 1]
    text = phrased(draw, "lists", "picking").format(w=joined, n=name)
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
    said = NUMBERS[count - 1] if draw.chance(0.5) else str(count)
    final = " ".join([word] * count)
    return _made(
        draw,
        "times",
        phrased(draw, "lists", "times").format(w=word, n=said),
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
    text = phrased(draw, "lists", "down" if down else "up").format(a=a, b=b)
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
    group, count = draw.shared(list(GROUPS)), draw.number(1, 5)
    said = NUMBERS[count - 1] if draw.chance(0.5) else str(count)
    final = ", ".join(GROUPS[group].split(", ")[:count])
    text = phrased(draw, "lists", "group").format(g=group, n=said)
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
