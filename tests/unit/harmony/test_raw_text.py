from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.raw_text import RawText
from gpt_oss_triton.harmony.tokens import encode_text

TEXT = "Zürich — 東京 🌍, end."


def whole(text: RawText, token_ids: list[int], cuts: list[int] = []) -> str:  # noqa: B006 - only read
    shown, start = "", 0
    for cut in [*sorted(cuts), len(token_ids)]:
        shown += text.feed(token_ids[start:cut])
        start = max(start, cut)
    return shown + text.finish()


@given(st.lists(st.integers(0, 60), max_size=6))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    assert whole(RawText(), encode_text(TEXT), cuts) == TEXT


def test_control_tokens_are_left_out_or_written_out() -> None:
    ids = [tokens.CHANNEL, *encode_text("final"), tokens.MESSAGE, *encode_text("Hi"), tokens.RETURN]
    assert whole(RawText(), ids) == "finalHi"
    assert whole(RawText(show_control=True), ids) == "<|channel|>final<|message|>Hi<|return|>"


def test_a_stop_string_ends_the_text_before_it() -> None:
    ids = encode_text("one two STOP three")
    text = RawText(["STOP", "never"])
    assert whole(text, ids) == "one two "
    assert text.stopped == "STOP"
    assert text.feed(encode_text("more")) == ""


def test_stop_strings_do_not_see_control_tokens_that_are_left_out() -> None:
    ids = [*encode_text("a"), tokens.END, *encode_text("b")]
    assert whole(RawText(["ab"]), ids) == ""
    assert whole(RawText(["ab"], show_control=True), ids) == "a<|end|>b"
    assert whole(RawText(["<|end|>"], show_control=True), ids) == "a"


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_decided() -> None:
    text = RawText(["world"])
    assert text.feed(encode_text("hello wor")) == "hello "
    assert text.written == len("hello wor")
    assert text.feed(encode_text("k")) == "work"


def test_a_cut_character_becomes_the_replacement_at_the_end() -> None:
    ids = encode_text("🌍")
    assert len(ids) > 1
    text = RawText()
    assert text.feed(ids[:-1]) == ""
    assert text.finish() == "\ufffd"
    assert whole(RawText(show_control=True), [*ids[:-1], tokens.END, *encode_text("x")]) == "\ufffd<|end|>x"


@pytest.mark.parametrize("seed", range(5))
def test_any_ids_are_text(seed: int) -> None:
    ids = [random.Random(seed).randrange(-5, 201_100) for _ in range(200)]
    assert isinstance(whole(RawText(show_control=True), ids), str)
