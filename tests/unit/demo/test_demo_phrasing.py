"""Phrases of users, in training and held out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest

from gpt_oss_triton.demo.corpus import phrasing
from gpt_oss_triton.demo.corpus.draw import Draw, Split
from gpt_oss_triton.demo.corpus.phrasing import PHRASES, phrased, plain

DRAWS = 3_000
LISTS = list(PHRASES)
PLACE = re.compile(r"\{(\w+)\}")


def drawn(split: Split, section: str, name: str, draws: int = DRAWS) -> set[str]:
    return {phrased(Draw(f"{n}", split), section, name) for n in range(draws)}


def plain_ones(phrases: Iterable[str]) -> set[str]:
    return {plain(phrase) for phrase in phrases}


def expanded(pattern: str) -> list[str]:
    """All that a pattern can become, but with one way to ask."""
    parts = re.split(r"(\[[^\[\]]*\]|<[^<>]*>)", pattern)
    choices = [part[1:-1].split("|") if part[:1] in {"[", "<"} else [part] for part in parts if part]
    return ["".join(choice) for choice in itertools.product(*choices)]


@pytest.mark.parametrize(("section", "name"), LISTS)
def test_every_list_has_phrases_that_are_held_out(section: str, name: str) -> None:
    held, trained = (plain_ones(drawn(split, section, name, 300)) for split in ("held", "train"))
    assert len(held) >= 3
    assert not held & trained


@pytest.mark.parametrize(
    ("section", "name"), [("lists", "repeat"), ("reference", "other"), ("talk", "greeting")]
)
def test_no_phrase_is_held_out_that_training_has_but_for_its_end_or_a_capital(
    section: str, name: str
) -> None:
    assert not plain_ones(drawn("held", section, name)) & plain_ones(drawn("train", section, name))


@pytest.mark.parametrize("name", ["+", "-", "*", "/", "compare"])
def test_every_task_has_its_two_numbers(name: str) -> None:
    for pattern in PHRASES["arithmetic", name].patterns:
        phrases = [phrasing._composed(Draw(f"{n}", "train"), (pattern,)) for n in range(50)]
        assert not any(sign in phrase for phrase in phrases for sign in "[]<>|"), pattern
        assert all(sorted(PLACE.findall(phrase))[:2] == ["a", "b"] for phrase in phrases), pattern


@pytest.mark.parametrize(("section", "name"), LISTS)
def test_no_pattern_has_two_blanks_or_none(section: str, name: str) -> None:
    wrong = re.compile(r"  |^ | $|[,;][A-Za-z{]| [,.;](\s|$)")
    for pattern in PHRASES[section, name].patterns:
        assert not [phrase for phrase in expanded(pattern) if wrong.search(phrase)], pattern


def test_what_is_usual_in_one_list_is_held_out_of_none() -> None:
    usual = plain_ones(phrase for phrases in PHRASES.values() for phrase in phrases.usual)
    for section, name in LISTS:
        assert not usual & plain_ones(drawn("held", section, name, 300))


def test_usual_phrases_are_not_held_out() -> None:
    usual = PHRASES["arithmetic", "+"].usual
    assert not set(usual) & drawn("held", "arithmetic", "+")
    assert "What is {a} + {b}?" in usual
    assert "What is {a} + {b}?" in drawn("train", "arithmetic", "+")


def test_ways_to_ask_are_put_in() -> None:
    phrases = drawn("train", "functions", "ask_none") | drawn("held", "functions", "ask_none")
    for way in phrasing._WAYS_TO_ASK:
        assert any(phrase.startswith(way) for phrase in phrases), way
    assert not any("<" in phrase for phrase in phrases)


def test_in_training_some_are_disturbed_but_for_their_places_and_what_stands_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phrasing, "_USUAL", 1.0)
    usual = plain_ones(PHRASES["functions", "ask_one"].usual)
    disturbed = {phrase for phrase in drawn("train", "functions", "ask_one") if plain(phrase) not in usual}
    assert disturbed
    for phrase in disturbed:
        assert re.search(r"\{[tTvVx]\}", phrase)
        assert phrase.count("{x}") == 1
