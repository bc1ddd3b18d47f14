from __future__ import annotations

import pytest

from gpt_oss_triton.engine.prompt_pace import LEAST, PromptPace

MOST = 512


def pace(stretch: float = 3.0, *, decode_s: float = 0.010, token_s: float = 0.0001) -> PromptPace:
    """One that has seen a step of decodes and one with a chunk."""
    pace = PromptPace(stretch)
    pace.observe(8, 0, decode_s)
    pace.observe(8, 100, decode_s + 100 * token_s)
    return pace


def test_nothing_is_held_back_before_anything_is_known() -> None:
    assert PromptPace(3.0).tokens(MOST) == MOST
    only_chunks = PromptPace(3.0)
    only_chunks.observe(0, MOST, 1.0)
    only_chunks.observe(8, MOST, 1.0)
    assert only_chunks.tokens(MOST) == MOST


def test_a_step_stays_within_its_stretch() -> None:
    assert pace(3.0).tokens(MOST) == 192  # 20 ms of 0.1 ms, in sixteens
    assert pace(2.0).tokens(MOST) == 96
    assert pace(100.0).tokens(MOST) == MOST


def test_a_chunk_is_never_too_small_to_be_worth_it() -> None:
    assert pace(3.0, token_s=1.0).tokens(MOST) == LEAST
    assert pace(3.0, token_s=1.0).tokens(10) == 10


def test_zero_is_no_limit() -> None:
    assert pace(0.0, token_s=1.0).tokens(MOST) == MOST


def test_it_follows_a_context_that_grows() -> None:
    growing = pace()
    before = growing.tokens(MOST)
    for _ in range(20):
        growing.observe(8, 100, 0.010 + 100 * 0.0002)
    assert growing.tokens(MOST) == pytest.approx(before / 2, abs=16)


def test_small_rests_of_prompts_do_not_count() -> None:
    steady = pace()
    before = steady.tokens(MOST)
    steady.observe(8, 3, 0.5)
    assert steady.tokens(MOST) == before


def test_tokens_that_cost_nothing_for_long_are_no_harm() -> None:
    """Where the steps of decodes alone were slow ones, a chunk may seem to shorten every step."""
    saturated = pace(2.5, decode_s=0.060)
    for _ in range(3000):
        saturated.observe(1, MOST, 0.015)
        assert saturated.tokens(MOST) == MOST
