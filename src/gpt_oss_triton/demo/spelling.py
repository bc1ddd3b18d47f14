"""Every token of the vocabulary as a few features of its spelling.

A model this small cannot learn 201,088 vectors, and a name that it has never seen would be a vector that was
never trained. So a token's vector is the sum of its features' vectors: which sign or blank it begins with, and
which letter stands at which place. ` Berlin`, `"Berlin` and `_berlin` then differ by little, and a model that has
learned to copy letters copies words that it has never met. Digits are counted from the right, so that units
stand at the same place in `7`, `47` and `347`.

Words that differ in one letter are too much alike for that alone: `Peter` was copied as `Pemer`. So a word, whatever
stands before it and however it is capitalized, also has a code: some signs drawn by its hash, which no other word's
code is close to.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL, token_bytes
from gpt_oss_triton.options import VOCABULARY

PLACES = 16  # letters of a token that count; longer tokens can be read, not written
LEADS = PLACES * 256  # a feature for each byte that a word can begin with, before its letters
_CAPITALS = LEADS + 256  # one for each place
_LENGTHS = _CAPITALS + PLACES
NOTHING = _LENGTHS + PLACES + 1  # fills the rows of short tokens; its vector is zero
FEATURES = NOTHING + 1
WIDTH = 2 * PLACES + 2  # most features of one token
_DIGITS = 3  # of a number token, at most
CODE = 128  # signs of a word's code


def features_of(token_id: int) -> list[int]:
    """Numbers below `NOTHING`, at most `WIDTH`; empty for control tokens."""
    text = token_bytes(token_id)
    return features_of_text(text) if text else []


def features_of_text(text: bytes) -> list[int]:
    """The same for a token of this text, which is not empty."""
    found = []
    word = word_in(text)
    if len(word) < len(text):
        found.append(LEADS + text[0])
        text = word
    shift = _DIGITS - len(text) if text.isdigit() and len(text) <= _DIGITS else 0
    for place, byte in enumerate(text[:PLACES]):
        found.append((place + shift) * 256 + ord(chr(byte).lower()) if byte < 128 else place * 256 + byte)
        if 65 <= byte <= 90:
            found.append(_CAPITALS + place)
    found.append(_LENGTHS + min(len(text), PLACES))
    return found


def feature_table() -> npt.NDArray[np.int64]:
    """`features_of` all text tokens, filled up with `NOTHING`: [FIRST_SPECIAL, WIDTH]. Takes about a second."""
    table = np.full((FIRST_SPECIAL, WIDTH), NOTHING, dtype=np.int64)
    for token in range(FIRST_SPECIAL):
        found = features_of(token)
        table[token, : len(found)] = found
    return table


def code_table() -> npt.NDArray[np.int8]:
    """The signs, 1 and -1, of all text tokens' words; zeros where a token is no text: [FIRST_SPECIAL, CODE]."""
    table = np.zeros((FIRST_SPECIAL, CODE), dtype=np.int8)
    for token in range(FIRST_SPECIAL):
        if text := token_bytes(token):
            drawn = hashlib.blake2b(_lower(word_in(text)), digest_size=CODE // 8).digest()
            table[token] = np.unpackbits(np.frombuffer(drawn, np.uint8)).astype(np.int8) * 2 - 1
    return table


def word_in(text: bytes) -> bytes:
    """Without the sign or blank that it begins with."""
    signed = len(text) > 1 and text[0] < 128 and not text[:1].isalnum()
    return text[1:] if signed and text[1:].decode(errors="replace")[0].isalpha() else text


def _lower(text: bytes) -> bytes:
    try:
        return text.decode().lower().encode()
    except UnicodeDecodeError:  # a part of a letter
        return text


def can_be_written(token_id: int) -> bool:
    """Whether spelling and code name the token: at most `PLACES` bytes of text, without control characters."""
    text = token_bytes(token_id)
    return 0 < len(text) <= PLACES and all(byte in b"\n\t" or 32 <= byte != 127 for byte in text)


class Alike:
    """Text tokens that can be written, those together that have some letters in common, whatever sign or blank comes
    before them.

    Attributes:
        tokens: int64, group by group.
        first, count: int64 [vocabulary], where each token's group begins among them, and how many it has.
    """

    def __init__(self, letters: slice) -> None:
        """`letters`: places of those that are the same."""
        groups: dict[bytes, list[int]] = defaultdict(list)
        for token in filter(can_be_written, range(FIRST_SPECIAL)):
            text = token_bytes(token).lower()
            groups[(text if text[:1].isalnum() else text[1:])[letters]].append(token)
        self.tokens = np.array([token for group in groups.values() for token in group])
        self.first, self.count = np.zeros((2, VOCABULARY), dtype=np.int64)
        begin = 0
        for group in groups.values():
            self.first[group], self.count[group] = begin, len(group)
            begin += len(group)
