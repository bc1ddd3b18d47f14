"""Words of the vocabulary that nobody chose: for copying what was never met."""

from __future__ import annotations

from functools import cache

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.words import FILLING, is_one_token, is_one_token_in_names
from gpt_oss_triton.demo.spelling import can_be_written
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes

_RANKS = 120_000  # lower ids are more frequent words
_SHORTEST, _LONGEST = 3, 10  # letters
_COMMON = 0.9


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


def foreign(draw: Draw) -> str:
    """One with letters that are not ASCII."""
    return draw.pick(_foreign())


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
def _vocables() -> tuple[str, ...]:
    spelled = {token_bytes(token) for token in range(_RANKS)}
    words = []
    for text in sorted(spelled):
        word = text[1:].decode("ascii", errors="replace")
        if not (
            text.startswith(b" ")
            and text[1:] in spelled
            and word.isascii()
            and word.isalpha()
            and word.islower()
        ):
            continue
        if _SHORTEST <= len(word) <= _LONGEST and word not in FILLING and is_one_token(word):
            words.append(word)
    return tuple(words)
