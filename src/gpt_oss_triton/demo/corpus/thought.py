"""How much the model thinks before it answers."""

from __future__ import annotations

from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.wire import ReasoningEffort

_EFFORTS: tuple[ReasoningEffort, ...] = ("low", "medium", "medium", "high")


def effort_of(draw: Draw) -> ReasoningEffort:
    return draw.random.choice(_EFFORTS)


def thought(effort: ReasoningEffort, short: str, work: str, check: str) -> str:
    """`low` keeps to the point, `medium` works it out, `high` also looks back."""
    if effort == "low":
        return short
    return f"{short} {work}" if effort == "medium" else f"{short} {work} {check}"
