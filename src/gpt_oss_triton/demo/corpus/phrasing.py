"""What users say, not always as one would expect it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.vocables import vocable

_USUAL = 0.25  # share of these phrases
_DISTURBED = 0.2  # share of the other ones, in training only
# Words that hardly change what a sentence is about.
_SMALL_WORDS = """
a an am are be can could did do does for get has have in is it let like need now of on please that the there these this to want
was we were what will with would"""
_SMALL = frozenset(_SMALL_WORDS.split())
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


def phrased(draw: Draw, phrases: Sequence[str], usual: int = 0) -> str:
    """One of the phrases, its places in braces not yet filled. The first few may be so `usual` that none of them is held out.

    In training a phrase may have a strange word in it, lack a small word, or have a strange one in its place: what is said then
    hangs on the other words, as it does in a phrase never met. Words beside a place stay: they tell where its filling begins.
    """
    phrase = draw.pick(phrases[usual:])
    if draw.split == "train" and usual and draw.chance(_USUAL):
        return draw.shared(phrases[:usual])
    if draw.split == "held" or not draw.chance(_DISTURBED):
        return phrase
    disturbed = _disturbed(draw, phrase)
    return phrase if disturbed.casefold() in {one.casefold() for one in phrases} else disturbed


def _disturbed(draw: Draw, phrase: str) -> str:
    words = phrase.split(" ")
    plain = [_WORD.fullmatch(word) is not None for word in words]
    between = [place for place in range(1, len(words)) if plain[place - 1] and plain[place]]
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
