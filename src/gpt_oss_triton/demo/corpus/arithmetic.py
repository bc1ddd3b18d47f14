"""Sums, differences, products, quotients and comparisons, with the working in the analysis."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, floordiv, mul, sub

from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.words import COUNTED, NAMES
from gpt_oss_triton.wire import ReasoningEffort

_OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": add, "-": sub, "*": mul, "/": floordiv}
# How often each is asked for: in training more often what is harder to learn.
_SIGNS: dict[Split, str] = {"train": "+++----****//", "held": "++++---**/"}
_LONGER = 0.1  # share of the training's divisions that count up further than any task, so that its last steps are seen, too
_EQUAL = 0.25  # share of its differences with two equal digits at a place: whether ten is lent there depends on the place before
_PLACES = ("ones", "tens", "hundreds", "thousands")


def arithmetic(draw: Draw) -> Episode:
    effort = effort_of(draw)
    sign = draw.random.choice(_SIGNS[draw.split])
    a, b = _operands(draw, sign)
    c = _OPERATIONS[sign](a, b)
    text = phrased(draw, "arithmetic", sign).format(a=a, b=b, **_story(draw))
    final = f"{a} {sign} {b} = {c}."
    return Episode("arithmetic", (Turn(text, working(sign, a, b, effort), final),), effort, has=(f"= {c}",))


def _story(draw: Draw) -> dict[str, str]:
    """Who and what a task is about."""
    (n, m), (x, y) = draw.picks(NAMES, 2), draw.picks(COUNTED, 2)
    return {"n": n, "m": m, "x": x, "y": y}


def comparison(draw: Draw) -> Episode:
    effort = effort_of(draw)
    size = draw.random.choice((20, 100, 999, 999))
    a = b = 0
    while a == b:
        a, b = draw.pair((0, size), (0, size))
    larger, smaller = max(a, b), min(a, b)
    analysis = thought(
        effort, _compared(a, b), f"So {larger} is larger.", "The first digits that differ decide."
    )
    text = phrased(draw, "arithmetic", "compare").format(a=a, b=b)
    final = f"{larger} is larger than {smaller}."
    if text.lower().startswith("is "):
        final = f"{'Yes' if a > b else 'No'}, {larger} is larger than {smaller}."
    return Episode("comparison", (Turn(text, analysis, final),), effort, has=(final,))


def _compared(a: int, b: int) -> str:
    """The digits at the same places, the highest first, as far as they have to be looked at."""
    steps = []
    for place in reversed(range(len(str(max(a, b))))):
        x, y = _digit(a, place), _digit(b, place)
        steps.append(f"{_PLACES[place]}: {x} and {y}.")
        if x != y:
            break
    return " ".join(steps)


def _operands(draw: Draw, sign: str) -> tuple[int, int]:
    training = draw.split == "train"
    if sign in "+-":
        size = draw.random.choice((10, 100, 100, 499, 499, 999))
        return draw.pair((0, size), (0, size)) if sign == "+" else _difference(draw, size)
    if sign == "*":
        by_heart = draw.chance(0.3 if training else 0.5)
        return draw.pair((2, 12), (2, 12)) if by_heart else draw.pair((11, 99), (2, 9))
    longer = training and draw.chance(_LONGER)
    a, b = draw.pair((13, 15) if longer else (2, 12), (2, 12))
    return a * b, b


def _difference(draw: Draw, size: int) -> tuple[int, int]:
    while True:
        a, b = draw.pair((0, size), (0, size))
        if draw.split == "train" and draw.chance(_EQUAL):
            place = draw.number(0, len(str(size - 1)) - 1)
            b += (_digit(a, place) - _digit(b, place)) * 10**place
        if a >= b and draw.owns(f"{a} {b}"):
            return a, b


def working(sign: str, a: int, b: int, effort: ReasoningEffort) -> str:
    """The task, the steps place by place, and with high effort the opposite calculation."""
    steps = {"+": _added, "-": _subtracted, "*": _multiplied, "/": _divided}[sign](a, b)
    named = " ".join(f"{place}: {step}." for place, step in zip(_PLACES, steps, strict=False))
    if effort == "low":
        return named
    text = f"{a} {sign} {b}. Step by step. {named}"
    if effort == "medium":
        return text
    c = _OPERATIONS[sign](a, b)
    back = {
        "+": f"{c} - {b} = {a}",
        "-": f"{c} + {b} = {a}",
        "*": f"{c} / {b} = {a}",
        "/": f"{c} * {b} = {a}",
    }[sign]
    return f"{text} So {a} {sign} {b} = {c}. Check: {back}."


def _added(a: int, b: int) -> list[str]:
    steps, carry = [], 0
    places = max(len(str(a)), len(str(b)))
    for place in range(places):
        x, y = _digit(a, place), _digit(b, place)
        total = x + y + carry
        known = a + b if place == places - 1 else _last_digits(a + b, place)
        steps.append(f"{x} + {y}" + (f" + {carry}" if carry else "") + f" = {total}, {known}")
        carry = total // 10
    return steps


def _digit(number: int, place: int) -> int:
    digit: int = number // 10**place % 10
    return digit


def _last_digits(number: int, place: int) -> str:
    """Of what is known of the result after the step for this place."""
    return f"{number % 10 ** (place + 1):0{place + 1}}"


def _subtracted(a: int, b: int) -> list[str]:
    steps, borrow = [], 0
    for place in range(max(len(str(a)), len(str(b)))):
        x, y = _digit(a, place), _digit(b, place)
        rest = x - y - borrow
        lent = "10 + " if rest < 0 else ""
        known = _last_digits(a - b, place)
        steps.append(f"{lent}{x} - {y}" + (f" - {borrow}" if borrow else "") + f" = {rest % 10}, {known}")
        borrow = int(rest < 0)
    return steps


def _multiplied(a: int, b: int) -> list[str]:
    if a < 10 and b < 10:
        return [f"{a} * {b} = {a * b}"]
    if a < 10:
        a, b = b, a
    ones, tens = a % 10 * b, a // 10 * b
    carry = ones // 10
    added = f", {tens} + {carry} = {tens + carry}" if carry else ""
    steps = [
        f"{a % 10} * {b} = {ones}, {ones % 10}",
        f"{a // 10} * {b} = {tens}{added}, {_last_digits(a * b, 1)}",
    ]
    if a * b > 99:
        steps.append(f"{a * b // 100}, {a * b}")
    return steps


def _divided(a: int, b: int) -> list[str]:
    """Counts up to it: which numbers are multiples of each other can be learned from the times that others are divided."""
    return [", ".join(f"{n} * {b} = {n * b}" for n in range(1, a // b + 1))]
