"""Sums, differences, products, quotients and comparisons, with the working in the analysis."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, floordiv, mul, sub

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.wire import ReasoningEffort

_OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": add, "-": sub, "*": mul, "/": floordiv}
_PLACES = ("ones", "tens", "hundreds", "thousands")
_ASK = {
    "+": (
        "What is {a} + {b}?", "{a} + {b} = ?", "Calculate {a} + {b}.", "How much is {a} plus {b}?", "Add {a} and {b}.",
        "What is the sum of {a} and {b}?", "Please add {b} to {a}.", "{a} plus {b}", "Compute {a}+{b}", "What's {a}+{b}?",
        "I have {a} coins and get {b} more. How many coins do I have?", "Can you tell me what {a} + {b} is?",
        "There are {a} cars and {b} buses. How many vehicles are there?", "{a}+{b}", "Solve {a} + {b}.",
        "What do you get when you add {a} and {b}?", "Sum {a} and {b}, please.", "Could you work out {a} plus {b}?", "Give me {a} + {b}.",
        "Sum up {a} and {b}.", "What is {a} plus {b}?", "I want the sum of {a} and {b}.", "The sum of {a} and {b}, please.", "Work out {a} + {b}.",
        "Add {b} to {a}, please.", "{a} and {b} make how much?", "Calculate the sum of {a} and {b}.", "Tell me {a} plus {b}.",
        "There are {a} pens and I get {b} more. How many pens are there?", "I had {a} dollars and got {b} dollars. How much do I have now?",
        "There are {a} men and {b} women. How many people are there?", "There are {a} apples and {b} pears. How many fruits are there?",
        "Anna has {a} books and Ben has {b}. How many do they have together?", "We have {a} chairs and buy {b} more. How many chairs do we have?",
        "{a} birds sit there and {b} more come. How many birds are there now?", "There are {a} cats and {b} dogs. How many animals are there?",
        "I read {a} pages and then {b} more. How many pages did I read?", "{a} boys and {b} girls: how many children?",
        "There were {a} people and {b} more came. How many are there now?", "Together, how much are {a} and {b}?", "Total of {a} and {b}?",
    ),
    "-": (
        "What is {a} - {b}?", "{a} - {b} = ?", "Calculate {a} - {b}.", "How much is {a} minus {b}?", "Subtract {b} from {a}.",
        "What is the difference between {a} and {b}?", "{a} minus {b}", "Compute {a}-{b}", "What's {a}-{b}?",
        "I have {a} coins and spend {b}. How many are left?", "Can you tell me what {a} - {b} is?", "{a}-{b}",
        "There were {a} birds and {b} flew away. How many stayed?", "Solve {a} - {b}.", "Take {b} away from {a}.",
        "What remains of {a} when you take away {b}?", "Could you work out {a} minus {b}?", "Give me {a} - {b}.", "Work out {a} - {b}.",
        "What is {a} minus {b}?", "I want the difference of {a} and {b}.", "Please subtract {b} from {a}.", "Tell me {a} minus {b}.",
        "The difference between {a} and {b}, please.", "What do you get when you subtract {b} from {a}?", "What is {a} without {b}?",
        "What is left of {a} when {b} are gone?", "From {a} take away {b}.", "There were {a} pens and {b} are gone. How many are left?",
        "There were {a} apples and {b} were eaten. How many are left?", "I had {a} dollars and paid {b}. How much is left?",
        "We had {a} chairs and sold {b}. How many do we still have?", "There were {a} people and {b} left. How many stayed?",
        "Anna had {a} books and gave {b} away. How many does she have now?", "{a} birds sat there and {b} flew away. How many are left?",
        "I have {a} pages to read and have read {b}. How many are left?", "There are {a} eggs. {b} break. How many are left?",
        "Of {a} cars {b} are sold. How many remain?", "There were {a} trees and {b} were cut. How many remain?", "Reduce {a} by {b}.",
        "By how much is {a} more than {b}?", "{a} less {b}", "There are {a} cups and {b} are lost. How many are still there?",
    ),
    "*": (
        "What is {a} * {b}?", "{a} x {b} = ?", "Calculate {a} * {b}.", "How much is {a} times {b}?", "Multiply {a} by {b}.",
        "What is the product of {a} and {b}?", "{a} times {b}", "Compute {a}*{b}", "What's {a} x {b}?", "{a}*{b}",
        "There are {a} boxes with {b} pens each. How many pens are there?", "Can you tell me what {a} times {b} is?",
        "Solve {a} * {b}.", "One ticket costs {b} dollars. What do {a} tickets cost?", "Could you work out {a} times {b}?",
        "Please multiply {a} by {b}.", "Multiply {a} and {b}.", "What do you get when you multiply {a} by {b}?", "Give me {a} * {b}.",
        "I want the product of {a} and {b}.", "The product of {a} and {b}, please.", "Tell me {a} times {b}.", "What is {a} times {b}?",
        "Work out {a} * {b}.", "What is {a} multiplied by {b}?", "{a} multiplied by {b}", "One pen costs {b} dollars. What do {a} pens cost?",
        "There are {a} bags with {b} coins each. How many coins are there?", "One book costs {b} dollars. How much are {a} books?",
        "{a} boxes hold {b} pens each. How many pens is that?", "There are {a} rows of {b} chairs. How many chairs are there?",
        "Each of {a} children gets {b} sweets. How many sweets is that?", "{a} teams of {b} players: how many players?",
        "A cup costs {b} dollars. What do I pay for {a} cups?", "I run {b} miles a day. How far do I run in {a} days?",
        "There are {a} shelves with {b} books each. How many books are there?", "How many eggs are in {a} boxes of {b}?",
        "{a} cars have {b} seats each. How many seats are there?", "What do {a} tickets at {b} dollars each cost?",
    ),
    "/": (
        "What is {a} / {b}?", "{a} / {b} = ?", "Calculate {a} / {b}.", "How much is {a} divided by {b}?", "Divide {a} by {b}.",
        "{a} divided by {b}", "Compute {a}/{b}", "What's {a} / {b}?", "Share {a} sweets among {b} children. How many does each get?",
        "Can you tell me what {a} divided by {b} is?", "Solve {a} / {b}.", "Could you work out {a} divided by {b}?", "Please divide {a} by {b}.",
        "What do you get when you divide {a} by {b}?", "Give me {a} / {b}.", "What is {a} divided by {b}?", "Tell me {a} divided by {b}.",
        "Work out {a} / {b}.", "Share {a} coins among {b} people. How many does each get?", "Divide {a} by {b}, please.",
        "{a} sweets for {b} children: how many for each?", "{b} people share {a} dollars. How much does each get?",
        "How many boxes of {b} do {a} eggs fill?", "How often does {b} go into {a}?", "{b} tickets cost {a} dollars. What does one ticket cost?",
        "How many times does {b} fit into {a}?", "{a} players make teams of {b}. How many teams are there?", "Split {a} coins among {b} people. How many for each?",
        "{a} pens are put into {b} boxes. How many are in each?", "{a} books stand on {b} shelves. How many are on each shelf?",
    ),
}  # fmt: skip
_COMPARE = (
    "Which is larger, {a} or {b}?", "Is {a} greater than {b}?", "Which number is bigger: {a} or {b}?", "What is more, {a} or {b}?",
    "Compare {a} and {b}.", "Tell me the larger of {a} and {b}.", "Which one is greater, {a} or {b}?", "Is {a} more than {b}?",
    "Which of these is the larger number, {a} or {b}?", "Compare {a} with {b}.", "What is larger, {a} or {b}?", "Is {a} larger than {b}?",
    "Give me the larger number of {a} and {b}.", "Tell me which is greater, {a} or {b}.", "Is {a} bigger than {b}?", "What is bigger, {a} or {b}?",
)  # fmt: skip


def arithmetic(draw: Draw) -> Episode:
    effort = effort_of(draw)
    sign = draw.random.choice("++++---**/")
    a, b = _operands(draw, sign)
    c = _OPERATIONS[sign](a, b)
    text = phrased(draw, _ASK[sign], usual=3).format(a=a, b=b)
    final = f"{a} {sign} {b} = {c}."
    return Episode("arithmetic", (Turn(text, working(sign, a, b, effort), final),), effort, has=(f"= {c}",))


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
    text = phrased(draw, _COMPARE, usual=2).format(a=a, b=b)
    final = f"{larger} is larger than {smaller}."
    if text.startswith("Is "):
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
    if sign in "+-":
        size = draw.random.choice((10, 100, 100, 499, 499, 999))
        while True:
            a, b = draw.pair((0, size), (0, size))
            if sign == "+" or a >= b:
                return a, b
    if sign == "*":
        return draw.pair((2, 12), (2, 12)) if draw.chance(0.5) else draw.pair((11, 99), (2, 9))
    a, b = draw.pair((2, 12), (2, 12))
    return a * b, b


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
    return [f"{a % 10} * {b} = {ones}, {ones % 10}", f"{a // 10} * {b} = {tens}{added}, {a * b}"]


def _divided(a: int, b: int) -> list[str]:
    """Counts up to it: which numbers are multiples of each other can be learned from the times that others are divided."""
    return [", ".join(f"{n} * {b} = {n * b}" for n in range(1, a // b + 1))]
