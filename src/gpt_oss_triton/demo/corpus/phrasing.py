"""What users say: patterns of `phrases.toml`, made into phrases whose places in braces are yet to be filled."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.vocables import vocable

_USUAL = 0.3  # share of the usual phrases
_DISTURBED = 0.1  # share of all, in training only
_HURRIED = 0.1  # share of those that begin with a small letter, and of those without a sign at their end
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ASKED = re.compile(r"<([^<>]*)>")
_WAYS_TO_ASK = (
    "{V}", "{v}", "Please {v}", "Can you {v}", "Could you {v}", "Would you {v}", "Will you {v}", "I want you to {v}", "I want to {v}",
    "I need to {v}", "I need you to {v}", "I would like to {v}", "Let us {v}", "Now {v}", "Just {v}", "We have to {v}", "Help me to {v}",
    "Go and {v}", "You should {v}", "Would you please {v}", "Then {v}",
)  # fmt: skip
# Words that hardly change what a sentence is about.
_SMALL_WORDS = """
a an am are be can could did do does for get has have in is it let like need now of on please that the there these this to want
was we were what will with would"""
_SMALL = frozenset(_SMALL_WORDS.split())
_ENDS = " .?!"
_PLACE = re.compile(r"\{.*?\}")
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Phrases:
    """A list of `phrases.toml`: the usual phrases, and the patterns of the other ones."""

    usual: tuple[str, ...]
    patterns: tuple[str, ...]


def _read(text: str) -> Phrases:
    lines = [line.replace(r"\n", "\n") for line in text.strip().splitlines()]
    usual = tuple(line for line in lines if not _CHOICE.search(line) and not _ASKED.search(line))
    return Phrases(usual, tuple(line for line in lines if line not in usual))


def plain(phrase: str) -> str:
    """The same for all that differ in capitals and in the sign at the end."""
    return phrase.rstrip(_ENDS).casefold()


def words_of(phrases: Phrases) -> set[str]:
    """All that these are made of, in small letters; what fills their places is not among it."""
    texts = (_PLACE.sub(" ", text) for text in (*phrases.usual, *phrases.patterns))
    return {word for text in texts for word in re.findall("[a-z]+", text.lower())}


_SECTIONS = tomllib.loads(resources.files(__package__).joinpath("phrases.toml").read_text("utf-8"))
PHRASES = {
    (section, name): _read(text) for section, lists in _SECTIONS.items() for name, text in lists.items()
}
_USUAL_ANYWHERE = frozenset(plain(phrase) for phrases in PHRASES.values() for phrase in phrases.usual)


def phrased(draw: Draw, section: str, name: str, hurried: bool = True) -> str:
    """A phrase that belongs to the draw's split. Usual ones are only drawn in training.

    In training a phrase may have a strange word in it, lack a small word, or have a strange one in its place: what is said then
    hangs on the other words, as it does in a phrase never met. Words beside a place stay: they tell where its filling begins.

    Args:
        hurried: some begin with a small letter, and some lack the sign at their end.
    """
    phrases = PHRASES[section, name]
    if phrases.usual and draw.split == "train" and draw.chance(_USUAL):
        phrase = draw.shared(phrases.usual)
    else:
        phrase = _composed(draw, phrases.patterns)
        while plain(phrase) in _USUAL_ANYWHERE or not draw.owns(plain(phrase)):
            phrase = _composed(draw, phrases.patterns)
    if draw.split == "train" and draw.chance(_DISTURBED):
        disturbed = _disturbed(draw, phrase)
        phrase = disturbed if draw.owns(plain(disturbed)) else phrase
    return _hurried(draw, phrase) if hurried else phrase


def _composed(draw: Draw, composed: tuple[str, ...]) -> str:
    pattern = draw.shared(composed)
    return _CHOICE.sub(
        lambda choice: draw.shared(choice[1].split("|")),
        _ASKED.sub(lambda asked: _asked(draw, asked[1]), pattern),
    )


def _asked(draw: Draw, verb: str) -> str:
    capital = "{V}" if verb == "{v}" else verb.capitalize()
    return draw.shared(_WAYS_TO_ASK).replace("{V}", capital).replace("{v}", verb)


def _hurried(draw: Draw, phrase: str) -> str:
    if draw.chance(_HURRIED) and not phrase.startswith("{"):
        phrase = phrase[0].lower() + phrase[1:]
    return phrase.rstrip(_ENDS) if draw.chance(_HURRIED) else phrase


def _disturbed(draw: Draw, phrase: str) -> str:
    words = phrase.split(" ")
    words_only = [_WORD.fullmatch(word) is not None for word in words]
    between = [
        place
        for place in range(1, len(words))
        if words_only[place - 1]
        and words_only[place]
        and not any("{" in near for near in words[place : place + 2])
    ]
    small = [
        place
        for place, word in enumerate(words)
        if word.lower() in _SMALL and not any("{" in near for near in words[max(0, place - 1) : place + 2])
    ]
    if between and draw.chance(0.5):
        words.insert(draw.random.choice(between), vocable(draw))
    elif small and len(words) > 2:
        place = draw.random.choice(small)
        words[place : place + 1] = [vocable(draw)] if draw.chance(0.5) else []
    return " ".join(words)
