"""Tokens by their spelling."""

from __future__ import annotations

import numpy as np

from gpt_oss_triton.demo.spelling import (
    CODE,
    NOTHING,
    WIDTH,
    Alike,
    can_be_written,
    code_table,
    feature_table,
    features_of,
)
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL, RETURN, encode_text


def features(text: str) -> set[int]:
    (token,) = encode_text(text)
    return set(features_of(token))


def test_a_word_differs_from_itself_behind_a_blank_by_one_feature() -> None:
    assert len(features(" Berlin") ^ features("Berlin")) == 1
    assert len(features(" Berlin") ^ features(" berlin")) == 1


def test_units_stand_at_the_same_place() -> None:
    assert len(features("7") & features("347")) == 1
    assert len(features("47") & features("347")) == 2
    assert not features("7") & features("700")


def test_tokens_that_can_be_written_are_told_apart() -> None:
    table = feature_table()
    written = [token for token in range(FIRST_SPECIAL) if can_be_written(token)]
    rows = {table[token].tobytes() for token in written}
    assert len(rows) == len(written) > 120_000
    assert all(len(features_of(token)) < WIDTH for token in written)
    assert (table < NOTHING).any(axis=1).all()


def test_control_tokens_have_no_spelling() -> None:
    assert features_of(RETURN) == []
    assert not can_be_written(RETURN)


def test_what_is_no_text_or_too_long_cannot_be_written() -> None:
    assert can_be_written(encode_text(" où")[0])
    assert not can_be_written(encode_text("\r")[0])
    (long,) = encode_text(" " * 40)
    assert not can_be_written(long)


def test_a_word_has_one_code_whatever_its_form_and_no_other_word_has_a_similar_one() -> None:
    table = code_table().astype(np.int32)
    forms = ("Berlin", " Berlin", " berlin")
    (code, *others) = (table[encode_text(form)[0]] for form in forms)
    assert all((code == other).all() for other in others)
    assert set(np.unique(code)) == {-1, 1}
    likeness = np.abs(table[:20_000] @ code)
    assert sorted(likeness[likeness > 0.6 * CODE]) == []


def test_words_that_are_spelled_alike_stand_together() -> None:
    alike = Alike(slice(3))
    assert sorted(alike.tokens) == [token for token in range(FIRST_SPECIAL) if can_be_written(token)]
    (when,) = encode_text(".when")
    begin, count = alike.first[when], alike.count[when]
    members = alike.tokens[begin : begin + count].tolist()
    for text in (" when", "_when", " where"):
        (token,) = encode_text(text)
        assert token in members
    assert encode_text(" then")[0] not in members
    assert alike.count[RETURN] == 0
