"""Words of the vocabulary that nobody chose: for copying what was never met."""

from __future__ import annotations

from functools import cache

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.words import is_one_token
from gpt_oss_triton.harmony.tokens import token_bytes

_RANKS = 120_000  # lower ids are more frequent words
_SHORTEST, _LONGEST = 3, 10  # letters


def vocable(draw: Draw) -> str:
    """One that is a single token, with a blank before it and without."""
    return draw.pick(_vocables())


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
        if _SHORTEST <= len(word) <= _LONGEST and is_one_token(word):
            words.append(word)
    return tuple(words)
