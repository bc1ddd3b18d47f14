"""Assistant turns for the tests: ids by hand, folds, and strategies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import strategies as st

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.parse import HarmonyParser
from gpt_oss_triton.harmony.tokens import encode_text, encoding

CONTROL = [
    tokens.RETURN,
    tokens.CONSTRAIN,
    tokens.CHANNEL,
    tokens.START,
    tokens.END,
    tokens.MESSAGE,
    tokens.CALL,
]
BYTE_TOKENS = [token for token in range(256) if len(tokens.token_bytes(token)) == 1]
TOKEN_OF_BYTE = {tokens.token_bytes(token): token for token in BYTE_TOKENS}


def ids(marked: str) -> list[int]:
    """Ids of text in which markers are control tokens."""
    return encoding().encode(marked, allowed_special="all")


def byte_ids(text: str) -> list[int]:
    """One token for each byte, so that every character but ASCII is split."""
    return [TOKEN_OF_BYTE[bytes([byte])] for byte in text.encode()]


def cut(items: Sequence[int], places: Iterable[int]) -> list[Sequence[int]]:
    bounds = [0, *sorted({place % (len(items) + 1) for place in places}), len(items)]
    return [items[start:end] for start, end in pairwise(bounds)]


class Whole(NamedTuple):
    """A message that has text."""

    channel: str
    recipient: str | None
    text: str


def fold(chunks: Iterable[Sequence[int]]) -> tuple[list[Whole], int]:
    """The messages that have text, whole, and the reasoning tokens."""
    parser = HarmonyParser()
    deltas = [delta for chunk in chunks for delta in parser.feed(chunk)] + parser.finish()
    bodies = list({id(delta.body): delta.body for delta in deltas}.values())
    texts = {id(body): "".join(d.text for d in deltas if d.body is body) for body in bodies}
    whole = [Whole(body.channel, body.recipient, texts[id(body)]) for body in bodies if texts[id(body)]]
    return whole, parser.reasoning_tokens


words = [
    "assistant",
    "user",
    "system",
    "analysis",
    "commentary",
    "final",
    " to=functions.f",
    " to",
    "=",
    "json",
    "functions",
]
any_token = st.one_of(
    st.sampled_from([*CONTROL, tokens.END_OF_TEXT]),
    st.sampled_from(words).flatmap(lambda word: st.sampled_from(encode_text(word))),
    st.sampled_from(BYTE_TOKENS),
    st.integers(0, 201_100),
    st.sampled_from([-1, 199_998, 200_001, 201_088, 2**31, 2**64]),
)
# Tokens one by one, mixed with whole words and headers, so that deep states are reached often.
fragments = st.one_of(
    st.lists(any_token, max_size=4),
    st.sampled_from(words).map(encode_text),
    st.sampled_from(
        [
            "<|start|>assistant",
            "<|channel|>analysis<|message|>",
            "<|channel|>final<|message|>",
            "<|channel|>thought",
        ]
    ).map(ids),
    st.text(max_size=12).map(byte_ids),
    st.integers(60, 70).map(lambda count: encode_text(" a") * count),
)
any_turn: st.SearchStrategy[list[int]] = st.lists(fragments, max_size=12).map(
    lambda parts: [t for p in parts for t in p]
)
cuts: st.SearchStrategy[Any] = st.lists(st.integers(0, 10_000), max_size=8)
