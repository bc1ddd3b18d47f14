from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.json_body import read_object
from gpt_oss_triton.errors import InvalidRequest


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"text"', None),
        (b"{'a': 1}", None),
        (b'{"a": 1,}', None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, None),
        (b'{"a":' * 980 + b"NaN" + b"}" * 980, "deep"),  # parsed, but only by recursion near its limit
        (b'{"temperature": NaN}', "temperature"),
        (b'{"a": {"b": [1, Infinity]}}', "a.b[1]"),
        (b'{"a": 1e999}', "a"),
        (b'{"a": ' + b"9" * 100 + b'.0, "b": ' + b"9" * 6000 + b"}", None),
        (b'{"messages": [{"content": "x\\ud800y"}]}', "messages[0].content"),
        (b'{"a": {"\\udfff": 1}}', "a"),
    ],
)
def test_bad_bodies(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_object(body)
    if param != "deep":
        assert caught.value.param == param


def test_surrogate_pairs_are_text() -> None:
    assert read_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(st.dictionaries(st.text(), _VALUES))
def test_json_is_read(value: dict[str, object]) -> None:
    assert read_object(json.dumps(value).encode()) == value


@given(st.binary())
def test_any_bytes_are_an_object_or_an_error(body: bytes) -> None:
    try:
        result = read_object(body)
    except InvalidRequest:
        return
    assert result == json.loads(body)
