from __future__ import annotations

from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import Finished

END = Finished("stop", prompt_tokens=9, completion_tokens=5, cached_tokens=4)


def came(*tokens: int) -> TokenCounts:
    counts = TokenCounts()
    counts.accepted(9, 0)
    for some in tokens:
        counts.came(some, None)
    return counts


def test_an_answer_that_breaks_has_the_tokens_that_came() -> None:
    assert came(1, 2) == TokenCounts(prompt=9, completion=3)


def test_the_engine_has_the_last_word() -> None:
    counts = came(1, 2)
    counts.came(2, END)
    assert counts == TokenCounts(prompt=9, cached=4, completion=5)


def test_a_second_engine_counts_anew() -> None:
    counts = came()
    counts.accepted(9, 8)
    assert counts == TokenCounts(prompt=9, cached=8)


def test_what_comes_after_a_cut_is_not_counted() -> None:
    before, after = came(3), came(3)
    before.cut(2)
    before.came(1, None)
    before.came(1, END)
    after.came(2, END)
    after.cut(2)
    assert before == after == TokenCounts(prompt=9, cached=4, completion=2)


def test_a_prompt_counts_once_as_its_first_answer_found_it() -> None:
    answers = [TokenCounts(10, 0, 4, 1), TokenCounts(10, 8, 5, 2), TokenCounts(7, 6, 1), TokenCounts(7, 6, 2)]
    assert TokenCounts.joint(answers[:2], 2) == TokenCounts(10, 0, 9, 3)
    assert TokenCounts.joint(answers, 2) == TokenCounts(17, 6, 12, 3)
    assert TokenCounts.joint(answers[:1], 1) == answers[0]


def test_an_answer_that_never_ran_says_nothing_of_the_cache() -> None:
    ran, waited = TokenCounts(10_000, 9_984, 3), TokenCounts()
    assert TokenCounts.joint([ran, waited], 2) == TokenCounts.joint([waited, ran], 2) == ran
    assert TokenCounts.joint([waited, waited], 2) == TokenCounts()
