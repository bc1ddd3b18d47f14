"""Phrases of users, in training and held out."""

from __future__ import annotations

import re

import pytest

from gpt_oss_triton.demo.corpus import phrasing
from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.phrasing import patterns, phrased

DRAWS = 3_000
SIGNS_AT_THE_END = " .?!"
LISTS = [(section, name) for section, lists in phrasing._PATTERNS.items() for name in lists]
PLACE = re.compile(r"\{(\w+)\}")


def drawn(split: Split, section: str, name: str, draws: int = DRAWS) -> set[str]:
    return {phrased(Draw(f"{n}", split), section, name) for n in range(draws)}


def plain(phrases: set[str]) -> set[str]:
    return {phrase.rstrip(SIGNS_AT_THE_END).casefold() for phrase in phrases}


@pytest.mark.parametrize(("section", "name"), LISTS)
def test_every_list_has_phrases_that_are_held_out(section: str, name: str) -> None:
    held, trained = (plain(drawn(split, section, name, 300)) for split in ("held", "train"))
    assert len(held) >= 3
    assert not held & trained


@pytest.mark.parametrize(
    ("section", "name"), [("lists", "repeat"), ("reference", "other"), ("talk", "greeting")]
)
def test_no_phrase_is_held_out_that_training_has_but_for_its_end_or_a_capital(
    section: str, name: str
) -> None:
    assert not plain(drawn("held", section, name)) & plain(drawn("train", section, name))


@pytest.mark.parametrize("name", ["+", "-", "*", "/", "compare"])
def test_every_task_has_its_two_numbers(name: str) -> None:
    for pattern in patterns("arithmetic", name)[1]:
        phrases = [phrasing._composed(Draw(f"{n}", "train"), (pattern,)) for n in range(50)]
        assert not any(sign in phrase for phrase in phrases for sign in "[]<>|"), pattern
        assert all(sorted(PLACE.findall(phrase))[:2] == ["a", "b"] for phrase in phrases), pattern


def test_usual_phrases_are_not_held_out() -> None:
    usual, _ = patterns("arithmetic", "+")
    assert not set(usual) & drawn("held", "arithmetic", "+")
    assert "What is {a} + {b}?" in usual
    assert "What is {a} + {b}?" in drawn("train", "arithmetic", "+")


def test_ways_to_ask_are_put_in() -> None:
    phrases = drawn("train", "functions", "ask_none") | drawn("held", "functions", "ask_none")
    assert {"Please {v} the {t}.", "Could you {v} my {t}"} <= phrases
    assert not any("<" in phrase for phrase in phrases)


def test_in_training_some_are_disturbed_but_for_their_places_and_what_stands_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phrasing, "_USUAL", 1.0)
    usual = plain(set(patterns("functions", "ask_one")[0]))
    disturbed = {phrase for phrase in drawn("train", "functions", "ask_one") if not plain({phrase}) & usual}
    assert disturbed
    for phrase in disturbed:
        assert re.search(r"\{[tTvVx]\}", phrase)
        assert phrase.count("{x}") == 1
