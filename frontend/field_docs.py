"""The tables of fields as the documentation shows them: `python -m frontend.field_docs` brings `docs/api.md` up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from frontend import chat_fields, completion_fields
from frontend.field_policy import Field
from frontend.responses import fields as response_fields

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
TABLES: dict[str, Mapping[str, Field]] = {
    "/v1/chat/completions": chat_fields.FIELDS,
    "/v1/completions": completion_fields.FIELDS,
    "/v1/responses": response_fields.FIELDS,
}
_PLACE = re.compile(r"(<!-- fields of (?P<path>\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def markdown(table: Mapping[str, Field]) -> str:
    """One row for each field, in the table's order."""
    rows = ["| field | | |", "|---|---|---|"]
    for name, field in table.items():
        accepted = ", ".join(f"`{json.dumps(value)}`" for value in field.neutral)
        but = f" (accepted: {accepted})" if accepted else ""
        rows.append(f"| `{name}` | {field.treatment} | {field.why}{but} |")
    return "\n".join(rows) + "\n"


def updated(page: str) -> str:
    """The page with its tables as they are now.

    Raises:
        ValueError: it has no place for one of them.
    """
    places = {match["path"] for match in _PLACE.finditer(page)}
    if missing := TABLES.keys() - places:
        raise ValueError(f"The page has no place for the fields of {', '.join(sorted(missing))}.")
    return _PLACE.sub(lambda place: f"{place[1]}{markdown(TABLES[place['path']])}{place[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
