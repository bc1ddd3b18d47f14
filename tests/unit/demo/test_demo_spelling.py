"""Tokens by their spelling."""

from __future__ import annotations

from gpt_oss_triton.demo.spelling import NOTHING, WIDTH, Alike, can_be_written, feature_table, features_of
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
    assert not can_be_written(encode_text("é")[0])


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
