"""docs/api.md names tests that hold what it says: they exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"`((?:e2e|unit)/[\w/]+\.py)(?:::(test_\w+))?`")


def test_the_tests_that_are_named_exist() -> None:
    named = NAMED.findall((TESTS.parent / "docs" / "api.md").read_text())
    assert len(named) > 25
    for path, test in named:
        assert f"def {test}(" in (TESTS / path).read_text() if test else (TESTS / path).exists(), (path, test)


def test_each_point_has_its_row() -> None:
    text = (TESTS.parent / "docs" / "api.md").read_text().partition("## What other servers get wrong")[2]
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(point) for point in range(1, 14)]
