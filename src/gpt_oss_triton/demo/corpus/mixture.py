"""Which conversations there are, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpt_oss_triton.demo.corpus import arithmetic, extraction, facts, lists, plain, reference, tooling
from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.episode import Episode
from gpt_oss_triton.demo.corpus.phrasing import phrased

_MAKERS: dict[Callable[[Draw], Episode], float] = {
    plain.talk: 1.2,
    plain.unknown: 1.0,
    arithmetic.arithmetic: 7.5,
    arithmetic.comparison: 0.5,
    facts.facts: 1.2,
    lists.copying: 2.2,
    lists.picking: 0.8,
    lists.times: 0.4,
    lists.counting: 0.5,
    lists.naming: 0.2,
    extraction.extraction: 5.0,
    tooling.call: 17.0,
    tooling.two_calls: 1.6,
    tooling.second_call: 1.8,
    tooling.no_call: 1.6,
    tooling.about_functions: 4.0,
    reference.told: 1.2,
    reference.calculated_on: 0.6,
    reference.said_again: 0.7,
    reference.another: 0.4,
    reference.persona: 0.5,
}
KINDS = (
    "talk", "unknown", "arithmetic", "comparison", "facts", "copying", "reversing", "counting words", "picking", "times",
    "counting", "naming", "extraction", "call", "two calls", "no call", "about functions",
    "reference", "persona",
)  # fmt: skip

# Share of the conversations in which names and values may be strange. What is done with a word has to be learned of words in
# general: of the lists' few hundred it would be learned by heart.
_STRANGE: dict[Split, float] = {"train": 0.85, "held": 0.5}
# Share of the training's conversations whose words are few, as where there are only those held out.
_NARROW = 0.5
_OPENED = frozenset(
    {"arithmetic", "comparison", "facts", "copying", "reversing", "picking", "counting", "call", "reference"}
)
_QUOTING = frozenset(
    {"copying", "reversing", "picking"}
)  # all words count: the opening has a line of its own
_BEFORE: tuple[Callable[[Draw], Episode], ...] = (
    plain.talk,
    facts.facts,
    arithmetic.arithmetic,
    lists.copying,
)


def episode(seed: int, index: int, split: Split) -> Episode:
    """Conversation number `index`; equal arguments give equal conversations."""
    draw = Draw(f"{seed}/{index}", split, _STRANGE[split], _NARROW)
    maker = draw.random.choices(list(_MAKERS), list(_MAKERS.values()))[0]
    made = replace(maker(draw), strange=draw.strange)
    if draw.chance(0.08):
        made = replace(
            made, date=f"{draw.number(2024, 2027)}-{draw.number(1, 12):02}-{draw.number(1, 28):02}"
        )
    if not made.instructions and draw.chance(0.3):
        made = replace(made, instructions=phrased(draw, "mixture", "instructions"))
    if made.kind in _OPENED and draw.chance(0.15):
        *earlier, last = made.turns
        opening = phrased(draw, "mixture", "openings", hurried=False)
        made = replace(
            made,
            turns=(
                *earlier,
                replace(
                    last,
                    user=f"{opening}\n{last.user}" if made.kind in _QUOTING else f"{opening} {last.user}",
                ),
            ),
        )
    if len(made.turns) == 1 and made.kind != "unknown" and not made.response_format and draw.chance(0.12):
        made = replace(made, turns=(*draw.random.choice(_BEFORE)(draw).turns, *made.turns))
    return made
