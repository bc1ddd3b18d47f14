"""Small talk, who-are-you, and what the model cannot know."""

from __future__ import annotations

from collections.abc import Sequence

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.episode import Episode, Turn
from gpt_oss_triton.demo.corpus.phrasing import PHRASES, phrased
from gpt_oss_triton.demo.corpus.thought import effort_of, thought
from gpt_oss_triton.demo.corpus.vocables import filling, vocable
from gpt_oss_triton.demo.corpus.words import CITIES, LIKES, NAMES, NOUNS

_KNOWN = 2  # added to the number of patterns, which says how much there is to learn of a topic
# (phrases of what a user says, what it is, the answer)
_TALK = (
    ("greeting", "greeting me", "Hello! How can I help you?"),
    ("how", "asking how I am", "I am fine, thank you. How can I help you?"),
    ("thanks", "thanking me", "You are welcome!"),
    ("bye", "saying goodbye", "Goodbye! Have a nice day."),
    (
        "who",
        "asking who I am",
        "I am gpt-oss-demo, a tiny language model. I know very little, but I can chat, calculate and call tools.",
    ),
    (
        "can",
        "asking what I can do",
        "I can calculate, repeat and reverse words, fill in JSON, answer a few facts and call your tools.",
    ),
    (
        "made",
        "asking who made me",
        "I was trained from scratch as a demo for this server, on conversations made by rules.",
    ),
    ("joke", "asking for a joke", "Why was the number six afraid? Because seven ate nine."),
    ("tired", "telling me of being tired", "I am sorry to hear that. A little rest may help."),
    ("joy", "telling me of joy", "I am glad to hear that!"),
    ("clever", "asking how clever I am", "Not very: I am tiny. But I do a few things well."),
    ("like", "asking what I like", "I cannot try it myself, but many people like {like}."),
    ("name", "telling me a name", "Nice to meet you, {name}! How can I help you?"),
    ("hobby", "telling me a hobby", "That is nice. I hope you have fun with {like}!"),
    ("home", "telling me a place", "I hope you like {city}!"),
)
_UNKNOWN = (
    ("weather", "the weather", "I do not know the weather in {city}: I cannot look anything up."),
    ("time", "the time", "I do not know what time it is: I have no clock."),
    ("person", "a person", "I do not know that person."),
    ("mine", "something about the user", "I do not know that: you have not told me."),
    ("news", "the news", "I do not know: I cannot look up what happens in the world."),
    ("future", "the future", "I do not know: nobody can tell the future."),
    ("beyond", "more than I know", "I am sorry, I am too small a model to know that."),
    ("letters", "the letters of a word", "I cannot tell: I see words as a whole, not their letters."),
)


def talk(draw: Draw) -> Episode:
    return _answered(
        draw,
        "talk",
        _TALK,
        "The user is {what}.",
        "I answer in a friendly way.",
        "One sentence or two are enough.",
    )


def unknown(draw: Draw) -> Episode:
    return _answered(
        draw,
        "unknown",
        _UNKNOWN,
        "It is about {what}.",
        "I cannot know this.",
        "I should say so and not guess.",
    )


def _answered(
    draw: Draw,
    kind: str,
    table: Sequence[tuple[str, str, str]],
    short: str,
    work: str,
    check: str,
) -> Episode:
    effort = effort_of(draw)
    weights = [len(PHRASES[kind, about].patterns) + _KNOWN for about, _, _ in table]
    about, what, answer = draw.random.choices(table, weights)[0]
    fill = {
        "name": filling(draw, NAMES),
        "city": filling(draw, CITIES),
        "like": filling(draw, LIKES),
        "noun": draw.pick(NOUNS),
        "word": vocable(draw),
    }
    final = answer.format(**fill)
    text = phrased(draw, kind, about).format(**fill)
    return Episode(
        kind,
        (Turn(text, thought(effort, short.format(what=what), work, check), final),),
        effort,
        has=(final,),
    )
