"""Later turns that lean on earlier ones."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.arithmetic import working
from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.facts import CAPITALS
from gpt_oss_triton.demo.corpus.phrasing import phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import filling, vocable
from gpt_oss_triton.demo.corpus.words import ADJECTIVES, CITIES, LIKES, NAMES, NOUNS
from gpt_oss_triton.wire import ReasoningEffort

# (phrases of what is told and asked, the answer to the first, to the second; what has to be in it)
_TOLD = (
    ("name", "Nice to meet you, {name}! How can I help you?", "Your name is {name}.", "name"),
    ("city", "I hope you like {city}!", "You live in {city}.", "city"),
    ("like", "That is nice. I hope you have fun with {like}!", "You like {like}.", "like"),
    ("thing", "I will remember that your {noun} is {adj}.", "Your {noun} is {adj}.", "adj"),
    ("word", "I will remember {word}.", "It is {word}.", "word"),
)
_SMALL = (
    ("Thanks", "You are welcome!"),
    ("Hello", "Hello! How can I help you?"),
    ("How are you?", "I am fine, thank you. How can I help you?"),
    ("What is 2 + 2?", "2 + 2 = 4."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
)


def told(draw: Draw) -> Episode:
    """The user tells something, perhaps chats on, and asks for it."""
    effort = effort_of(draw)
    about, reply, answer, key = draw.random.choice(_TOLD)
    fill = {
        "name": filling(draw, NAMES), "city": filling(draw, CITIES), "like": filling(draw, LIKES), "noun": draw.pick(NOUNS),
        "adj": draw.pick(ADJECTIVES), "word": vocable(draw),
    }  # fmt: skip
    turns = [Turn(phrased(draw, "reference", f"{about}_told").format(**fill), "", reply.format(**fill))]
    turns += [Turn(user, "", final) for user, final in draw.random.sample(_SMALL, draw.number(0, 2))]
    analysis = thought(
        effort,
        "The user told me before.",
        f"It was: {fill[key]}.",
        "I look at the earlier message and answer.",
    )
    turns.append(
        Turn(phrased(draw, "reference", f"{about}_asked").format(**fill), analysis, answer.format(**fill))
    )
    return Episode("reference", tuple(turns), effort, has=(fill[key],))


def calculated_on(draw: Draw) -> Episode:
    effort = effort_of(draw)
    sign = draw.random.choice("+-")
    first, n = draw.pair((100, 800), (1, 99))
    a = draw.number(1, first - 1)
    b = first - a
    c = first + n if sign == "+" else first - n
    turns = (
        Turn(f"What is {a} + {b}?", "", f"{a} + {b} = {first}."),
        Turn(
            phrased(draw, "reference", "more_plus" if sign == "+" else "more_minus").format(n=n),
            working(sign, first, n, effort),
            f"{first} {sign} {n} = {c}.",
        ),
    )
    return Episode("reference", turns, effort, has=(f"= {c}.",))


def said_again(draw: Draw) -> Episode:
    effort = effort_of(draw)
    words = [vocable(draw) for _ in range(draw.number(2, 4))]
    joined = " ".join(words)
    back = draw.chance(0.6)
    final = " ".join(reversed(words)) if back else joined
    return _after(
        effort,
        Turn(f"Repeat: {joined}", "", joined),
        phrased(draw, "reference", "turn" if back else "again"),
        f"The words: {joined}.",
        final,
        final,
    )


def another(draw: Draw) -> Episode:
    effort = effort_of(draw)
    first, second = draw.random.sample(list(CAPITALS), 2)
    earlier = Turn(f"What is the capital of {first}?", "", f"The capital of {first} is {CAPITALS[first]}.")
    asked = phrased(draw, "reference", "other").format(k=second)
    final = f"The capital of {second} is {CAPITALS[second]}."
    return _after(effort, earlier, asked, f"The capital of {second}.", final, CAPITALS[second])


def persona(draw: Draw) -> Episode:
    """Instructions that give the model a name."""
    effort = effort_of(draw)
    name, place = filling(draw, NAMES), filling(draw, CITIES)
    instructions = phrased(draw, "reference", "persona").format(n=name, p=place)
    asked, final, has = draw.random.choice(
        (("persona_name", f"I am {name}.", name), ("persona_place", f"I am in {place}.", place))
    )
    analysis = thought(
        effort, f"I am {name} in {place}.", "The instructions say so.", "I answer as this person."
    )
    return Episode(
        "persona",
        (Turn(phrased(draw, "reference", asked), analysis, final),),
        effort,
        has=(has,),
        instructions=instructions,
    )


def _after(effort: ReasoningEffort, earlier: Turn, asked: str, work: str, final: str, has: str) -> Episode:
    analysis = thought(effort, "It is about my last answer.", work, "I use what was said before.")
    return Episode("reference", (earlier, Turn(asked, analysis, final)), effort, has=(has,))
