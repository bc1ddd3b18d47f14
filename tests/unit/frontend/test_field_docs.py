from __future__ import annotations

import pytest

from frontend.field_docs import PAGE, TABLES, markdown, updated
from frontend.field_policy import Field, honoured, refused


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert updated(page) == page, "run python -m frontend.field_docs"


def test_every_field_has_its_row() -> None:
    page = PAGE.read_text()
    for table in TABLES.values():
        for name, field in table.items():
            assert f"| `{name}` | {field.treatment} | {field.why}" in page


def test_rows() -> None:
    table: dict[str, Field] = {"a": honoured("yes"), "b": refused(int, "one only", 1, "x")}
    assert markdown(table).splitlines()[2:] == [
        "| `a` | honoured | yes |",
        '| `b` | refused | one only (accepted: `1`, `"x"`) |',
    ]


def test_a_page_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="/v1/chat/completions"):
        updated("nothing here")
