"""Rows of results: each is a line of JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

Row = dict[str, Any]  # numbers, texts, and None where there was nothing to measure


def say(row: Row) -> None:
    print(json.dumps(row, allow_nan=False), flush=True)  # noqa: T201


def milliseconds(seconds: list[float], quantile: float) -> float | None:
    """That quantile; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(quantile * len(ordered)))], 1)


def ratio(value: float | None, to: float | None) -> float | None:
    """None where there is nothing to compare, or nothing to compare with."""
    return round(value / to, 3) if value is not None and to else None
