"""The o200k_harmony vocabulary: control tokens by name, text to ids, ids to bytes.

What a user wrote is always encoded as ordinary text: a literal `<|start|>` becomes the seven tokens of
its characters, never the control token. Only a raw prompt is read with its control tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

from openai_harmony import HarmonyEncoding, HarmonyEncodingName, load_harmony_encoding

from gpt_oss_triton.options import VOCABULARY

FIRST_SPECIAL = 199_998  # ids below are text; from here on control tokens, reserved ids and padding
END_OF_TEXT = 199_999
RETURN = 200_002
CONSTRAIN = 200_003
CHANNEL = 200_005
START = 200_006
END = 200_007
MESSAGE = 200_008
CALL = 200_012

STOP_IDS = frozenset({RETURN, CALL, END_OF_TEXT})  # end decoding; END does not, it closes one message

_MARKER = re.compile(r"(<\|[a-z0-9_]{1,32}\|>)")
_CUT_EVERY = 256  # characters
_HALF_WINDOW = 128


@cache
def encoding() -> HarmonyEncoding:
    """The harmony library's encoding. Its vocabulary ships with it: nothing is downloaded."""
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def encode_text(text: str) -> list[int]:
    """Ids of ordinary text; control markers in it stay text.

    The encoder's work on one word is quadratic in the word's length, and its stack overflows on a run of
    some hundred thousand letters, signs or blanks. So a run of one kind that is longer than `_CUT_EVERY`
    characters may be cut before encoding, and one twice as long is: the only texts whose ids differ from
    the encoder's own.

    Raises:
        UnicodeEncodeError: a lone surrogate.
    """
    text.encode()  # the library would silently put U+FFFD for a lone surrogate
    encode = encoding().encode
    ids: list[int] = []
    start = 0
    for cut in range(_CUT_EVERY, len(text), _CUT_EVERY):
        if _inside_long_run(text, cut):
            ids += encode(text[start:cut], disallowed_special=())
            start = cut
    ids += encode(text[start:], disallowed_special=())
    return ids


def encode_marked(text: str) -> list[int]:
    """Ids of text in which the vocabulary's control markers stand for their tokens.

    Raises:
        UnicodeEncodeError: a lone surrogate.
    """
    ids: list[int] = []
    words = ""
    for piece in _MARKER.split(text):
        token = _special_ids().get(piece)
        if token is None:
            words += piece
            continue
        ids += [*encode_text(words), token]
        words = ""
    return ids + encode_text(words)


@cache
def _special_ids() -> dict[str, int]:
    named = {decode([token]): token for token in range(FIRST_SPECIAL, VOCABULARY)}
    return {marker: token for marker, token in named.items() if marker in encoding().special_tokens_set}


def _inside_long_run(text: str, position: int) -> bool:
    if position + _HALF_WINDOW > len(text):
        return False
    kinds = -1
    for character in text[position - _HALF_WINDOW : position + _HALF_WINDOW]:
        kinds &= _kinds(character)
        if not kinds:
            return False
    return True


_LETTER, _SIGN, _BLANK = 1, 2, 4


@lru_cache(maxsize=65_536)
def _kinds(character: str) -> int:
    """The kinds of run that may hold this character, as the encoder's word pattern sees it.

    Marks join letters as well as signs, and line ends join blanks as well as the signs before them. A
    code point that this Python does not know may be either in the encoder's newer tables.
    """
    if character in "\r\n\x1c\x1d\x1e\x1f":
        return _SIGN | _BLANK
    if character.isspace():
        return _BLANK
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cn":
        return _LETTER | _SIGN
    if category[0] == "L":
        return _LETTER
    return 0 if category[0] == "N" else _SIGN  # numbers come in words of at most three


@lru_cache(maxsize=VOCABULARY)
def token_bytes(token_id: int) -> bytes:
    """UTF-8 of one text token, which may be part of a character.

    Empty for control tokens, reserved ids, padding and ids outside of the vocabulary.
    """
    return _raw_bytes(token_id) if 0 <= token_id < FIRST_SPECIAL else b""


def _raw_bytes(token_id: int) -> bytes:
    # The library's public decoding works on text; bytes come from the object that it wraps.
    return bytes(encoding()._inner.decode_bytes([token_id]))


def decode(token_ids: Iterable[int]) -> str:
    """Text with control markers written out, for people to read; ids outside of the vocabulary vanish."""
    data = b"".join(_raw_bytes(token) for token in token_ids if 0 <= token < VOCABULARY)
    return data.decode(errors="replace")
