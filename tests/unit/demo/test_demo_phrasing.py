"""Phrases of users, in training and held out."""

from __future__ import annotations

import re

import pytest

from gpt_oss_triton.demo.corpus import functions, lists, reference
from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.phrasing import phrased

PHRASES = (
    "Hello there",
    "Show me the {t} of {x}.",
    "What is the name of this?",
    "Is the {t} ready?",
    "Say {w}",
    "Please get me the {t} for {x}.",
    "How are you doing today?",
)
DRAWS = 3_000


def _all(split: str, usual: int = 0) -> set[str]:
    return {phrased(Draw(f"{n}", split), PHRASES, usual) for n in range(DRAWS)}  # type: ignore[arg-type]


def test_what_is_held_out_is_held_out_as_it_stands() -> None:
    held = _all("held")
    assert held
    assert held < set(PHRASES)
    assert not held & _all("train")


def test_usual_phrases_are_not_held_out() -> None:
    assert not set(PHRASES[:3]) & _all("held", usual=3)
    assert set(PHRASES[:3]) <= _all("train", usual=3)


def test_in_training_some_are_disturbed_but_for_their_places_and_what_stands_beside() -> None:
    trained = _all("train") - set(PHRASES)
    assert trained
    beside = {phrase: re.findall(r"\S*\s?\S*\{\w\}\S*\s?\S*", phrase) for phrase in PHRASES}
    kept = [parts for parts in beside.values() if parts]
    for text in trained:
        if "{" in text:
            assert any(all(part in text for part in parts) for parts in kept), text


@pytest.mark.parametrize(
    "phrases", [functions._ASK_ONE, lists._REPEAT, lists._COUNT_WORDS, reference._OTHER, reference._TURN]
)
def test_no_disturbed_phrase_is_another_one(phrases: tuple[str, ...]) -> None:
    held = {phrased(Draw(f"{n}", "held"), phrases) for n in range(DRAWS)}
    trained = {phrased(Draw(f"{n}", "train"), phrases) for n in range(DRAWS)}
    assert not {text.casefold() for text in held} & {text.casefold() for text in trained}
