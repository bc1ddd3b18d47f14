"""Words of the vocabulary that nobody chose: for copying what was never met."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

from gpt_oss_triton.demo.corpus.draw import Draw, part
from gpt_oss_triton.demo.corpus.words import FILLING, is_one_token, is_one_token_in_names
from gpt_oss_triton.demo.spelling import can_be_written
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes

_RANKS = 120_000  # lower ids are more frequent words
_SHORTEST, _LONGEST = 3, 10  # letters
_COMMON = 0.9
_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA")  # that have no blanks between words


def vocable(draw: Draw) -> str:
    """One that is a single token, with a blank before it and without."""
    return draw.pick(_vocables())


def part_of_name(draw: Draw) -> str:
    """One that most often is a single token in names, too."""
    word = vocable(draw)
    if draw.chance(_COMMON):
        while word not in _parts_of_names():
            word = vocable(draw)
    return word


def usual_or_strange(
    draw: Draw, usual: Sequence[str], strange: float, any_word: Callable[[Draw], str] = part_of_name
) -> str:
    """One of a list, or, in this share of the cases and where strange ones may be, a word that nobody chose, from `any_word`."""
    return any_word(draw) if draw.strange and draw.chance(strange) else draw.pick(usual)


def parts_of_names(
    draw: Draw,
    usual: Sequence[str],
    count: int,
    strange: float,
    any_word: Callable[[Draw], str] = part_of_name,
) -> list[str]:
    """Different ones, each as `usual_or_strange` draws it."""
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(usual_or_strange(draw, usual, strange, any_word))
    return list(found)


def filling(draw: Draw, usual: Sequence[str]) -> str:
    """A name, a place or a pastime. In training half of them are words that nobody chose, so that the model tells what a word is
    by where it stands, and does not learn a short list by heart."""
    if draw.split == "train" and draw.chance(0.5):
        return draw.pick(_proper()) if usual[0].istitle() else vocable(draw)
    return draw.pick(usual)


def foreign(draw: Draw) -> str:
    """One with letters that are not ASCII."""
    return draw.pick(_foreign())


def unspaced(draw: Draw) -> str:
    """Some words of a language that has no blanks between them."""
    script = draw.random.choice(_SCRIPTS)
    return "".join(draw.pick(_unspaced(script)) for _ in range(draw.number(1, 5)))


@cache
def held_out() -> frozenset[str]:
    """Words that no training may show, in small letters: those held out, and all of the lists."""
    held = {word.lower() for words in (_vocables(), _proper()) for word in part(words, "held")}
    return FILLING | held


def _can_be_copied(word: str) -> bool:
    return is_one_token(word) and all(can_be_written(encode_text(form)[0]) for form in (word, f" {word}"))


@cache
def _parts_of_names() -> frozenset[str]:
    return frozenset(filter(is_one_token_in_names, _vocables()))


@cache
def _foreign() -> tuple[str, ...]:
    texts = (token_bytes(token) for token in range(_RANKS))
    words = (text[1:].decode(errors="replace") for text in texts if text and text.startswith(b" "))
    return tuple(
        sorted({word for word in words if word.isalpha() and not word.isascii() and _can_be_copied(word)})
    )


@cache
def _unspaced(script: str) -> tuple[str, ...]:
    texts = (token_bytes(token).decode(errors="replace") for token in range(_RANKS) if can_be_written(token))
    return tuple(
        sorted({text for text in texts if text.isalpha() and unicodedata.name(text[0]).startswith(script)})
    )


@cache
def _proper() -> tuple[str, ...]:
    return _spaced(str.istitle)


@cache
def _vocables() -> tuple[str, ...]:
    return _spaced(str.islower)


def _spaced(is_meant: Callable[[str], bool]) -> tuple[str, ...]:
    spelled = {token_bytes(token) for token in range(_RANKS)}
    words = []
    for text in sorted(spelled):
        word = text[1:].decode("ascii", errors="replace")
        if not (text.startswith(b" ") and text[1:] in spelled and word.isascii() and word.isalpha()):
            continue
        if (
            is_meant(word)
            and _SHORTEST <= len(word) <= _LONGEST
            and word.lower() not in FILLING
            and is_one_token(word)
        ):
            words.append(word)
    return tuple(words)
