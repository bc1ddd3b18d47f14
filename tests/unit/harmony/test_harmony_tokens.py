import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.tokens import decode, encode_text, encoding, token_bytes

MARKERS = {
    "<|endoftext|>": tokens.END_OF_TEXT,
    "<|return|>": tokens.RETURN,
    "<|constrain|>": tokens.CONSTRAIN,
    "<|channel|>": tokens.CHANNEL,
    "<|start|>": tokens.START,
    "<|end|>": tokens.END,
    "<|message|>": tokens.MESSAGE,
    "<|call|>": tokens.CALL,
}


@pytest.mark.parametrize(("marker", "token"), MARKERS.items())
def test_control_tokens_are_the_vocabularys(marker: str, token: int) -> None:
    assert encoding().encode(marker, allowed_special="all") == [token]
    assert decode([token]) == marker
    assert token_bytes(token) == b""


@pytest.mark.parametrize("marker", sorted(encoding().special_tokens_set)[:40])
def test_literal_markers_stay_text(marker: str) -> None:
    ids = encode_text(marker)
    assert all(token < tokens.FIRST_SPECIAL for token in ids)
    assert b"".join(map(token_bytes, ids)).decode() == marker


@pytest.mark.parametrize("token", [-1, -(2**40), 199_998, 200_000, 200_500, 201_087, 201_088, 2**31, 2**70])
def test_ids_that_are_no_text_have_no_bytes(token: int) -> None:
    assert token_bytes(token) == b""
    decode([token])  # must not raise


@given(st.text(max_size=200))
def test_short_text_is_encoded_as_by_the_library(text: str) -> None:
    assert encode_text(text) == encoding().encode(text, disallowed_special=())


def test_long_ordinary_text_is_encoded_as_by_the_library() -> None:
    prose = "The year is 2025; 東京は日本の首都です。 " * 300 + "x" * 255 + " " + "=" * 200 + "1" * 5000
    assert encode_text(prose) == encoding().encode(prose, disallowed_special=())


# Each of these overflows the library's stack or takes it minutes at this length.
@pytest.mark.parametrize(
    "unit", ["a", "aA", " ", "\n", "\r\n \t", "=", "=\n/", "\0", "\x1c", "😀", "e\u0301", "ก\u0e31", "\u0378"]
)
def test_runs_without_a_word_boundary_are_encoded(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    assert decode(encode_text(text)) == text


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_text("a\ud800b")
