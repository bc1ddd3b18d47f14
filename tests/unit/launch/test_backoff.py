from __future__ import annotations

import pytest

from gpt_oss_triton.launch.backoff import Backoff


def test_waits_double_up_to_the_longest_and_end() -> None:
    backoff = Backoff(first_s=1, longest_s=5, quick_s=60, limit=6)
    assert [backoff.after(0.1) for _ in range(6)] == [1, 2, 4, 5, 5, None]


def test_a_good_life_starts_the_count_anew() -> None:
    backoff = Backoff(first_s=1, quick_s=60, limit=3)
    assert [backoff.after(life) for life in (1, 1, 60, 1, 1)] == [1, 2, 1, 2, None]


@pytest.mark.parametrize("life_s", [60, 1e6])
def test_good_lives_never_lead_to_giving_up(life_s: float) -> None:
    backoff = Backoff()
    assert {backoff.after(life_s) for _ in range(100)} == {backoff.first_s}
