from __future__ import annotations

from gpt_oss_triton.launch.backoff import Backoff


def test_waits_double_up_to_the_longest_and_end() -> None:
    backoff = Backoff(first_s=1, longest_s=5, quick_s=60, limit=6)
    assert [backoff.after(0.1, served=False) for _ in range(6)] == [1, 2, 4, 5, 5, None]


def test_a_long_life_starts_the_waits_anew() -> None:
    backoff = Backoff(first_s=1, quick_s=60, limit=9)
    assert [backoff.after(life, served=True) for life in (1, 1, 60, 1, 1)] == [1, 2, 1, 2, 4]


def test_one_that_serves_between_its_deaths_is_never_given_up() -> None:
    backoff = Backoff(first_s=1, longest_s=4, limit=3)
    assert [backoff.after(5, served=True) for _ in range(100)] == [1, 2, *[4] * 98]


def test_one_that_never_serves_is_given_up_however_long_it_tries() -> None:
    backoff = Backoff(first_s=1, limit=3)
    assert [backoff.after(100, served=False) for _ in range(3)] == [1, 1, None]
