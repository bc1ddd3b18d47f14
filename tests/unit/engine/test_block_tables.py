"""Sliding layers keep the last blocks of a sequence; what falls out of the window is given back, and may be found."""

from __future__ import annotations

import pytest

from gpt_oss_triton.engine.block_tables import window_name
from tests.unit.engine.test_scheduler import run_all, run_step, scheduler, sequence, shape

WINDOW = 8  # four blocks of two tokens


def sliding(blocks=200, **options):
    return scheduler(blocks, window=WINDOW, **{"max_step_tokens": 16, **options})


def window_blocks_found(s, one):
    return [n for n, name in enumerate(one.names) if s.pool.find(window_name(name)) is not None]


def test_a_chunk_takes_its_window_blocks_and_leaves_the_last_ones():
    s = sliding()
    one = sequence("a", list(range(100)))
    s.add(one)
    for step in range(1, 4):
        chunks = s.schedule()
        assert len(one.window_blocks) == 8 * step
        assert one.blocks_held == 50 + (8 if step == 1 else 12)
        run_step(s, chunks)
        assert one.blocks_held == 50 + 4
        assert one.window_first == 8 * step - 4


def test_a_decode_gives_up_one_window_block_for_another():
    s = sliding()
    one = sequence("a", list(range(21)), limit=40)
    s.add(one)
    held = set()
    while one.output_tokens < 30:
        run_step(s, s.schedule())
        if one.output_tokens:
            held.add(one.blocks_held - len(one.blocks))
            assert one.blocks_held == s.tables.shape.held(one.computed)
    assert held == {4, 5}


def test_without_a_prefix_cache_what_falls_out_is_free():
    s = sliding()
    s.pool.keeps_prefixes = False
    s.add(sequence("a", list(range(100))))
    run_step(s, s.schedule())
    assert (s.pool.used, s.pool.cached) == (54, 0)


def test_a_prefix_hit_deep_in_a_prompt_takes_the_window_blocks_there():
    s = sliding()
    trunk = list(range(60))
    s.add(sequence("a", [*trunk, *range(100, 140)], limit=1))
    run_all(s)
    b = sequence("b", [*trunk, 200, 201, 202])
    s.add(b)
    assert shape(s.schedule()) == [("b", 3)]
    assert b.cached_tokens == 60
    assert b.window_first == 26
    assert len(b.blocks) == len(b.window_blocks) == 32


def test_a_hit_ends_where_window_blocks_are_left():
    """All full blocks of the first prompt are there, but the window blocks in its middle were needed elsewhere."""
    s = sliding()
    a = sequence("a", list(range(100)), limit=1)
    s.add(a)
    run_all(s)
    for n in range(20, 40):
        s.pool.disown([s.pool.find(window_name(a.names[n]))])
    assert s.found_tokens(sequence("b", [*range(90), 200])) == 90  # its window begins at block 41
    assert s.found_tokens(sequence("b", [*range(86), 200])) == 40
    assert s.found_tokens(sequence("b", [*range(30), 200])) == 30
    b = sequence("b", [*range(86), 200], limit=1)
    s.add(b)
    run_all(s)
    assert b.cached_tokens == 40
    assert s.found_tokens(sequence("c", [*range(86), 201])) == 86, "the second has computed what was missing"


def test_what_falls_out_is_the_first_to_go_but_for_landmarks():
    s = sliding(blocks=60)
    one = sequence("a", list(range(100)), limit=3)
    s.add(one)
    run_all(s)
    assert window_blocks_found(s, one) == list(range(51))
    s.pool.release(s.pool.allocate(len(s.pool._free) + 36))
    # One window of four, and from where the prompt ends.
    assert window_blocks_found(s, one) == [*range(12, 16), *range(28, 32), *range(44, 51)]
    assert len(s.pool.match(one.names)) == 51
    assert s.found_tokens(sequence("again", list(range(100)))) == 98
    assert s.found_tokens(sequence("shared", [*range(90), 200])) == 64


def test_what_was_found_stays_findable():
    """A prefix that many share, of no special length: the second to share it makes its end stay."""
    s = sliding(blocks=60)
    trunk = list(range(46))
    for name in "ab":
        s.add(sequence(name, [*trunk, *range(100 * ord(name), 100 * ord(name) + 30)], limit=1))
        run_all(s)
    assert s.pool.allocatable == s.pool.total
    s.pool.release(s.pool.allocate(len(s.pool._free) + 30))
    assert s.found_tokens(sequence("c", [*trunk, 200])) == 46


def test_a_preempted_sequence_finds_its_window_blocks_again():
    s = sliding()
    one = sequence("a", list(range(41)), limit=20)
    s.add(one)
    while one.output_tokens < 6:
        run_step(s, s.schedule())
    computed = one.computed
    s._preempt(one)
    assert (one.blocks_held, s.pool.used) == (0, 0)
    run_step(s, s.schedule())
    assert one.computed > computed
    assert one.preemptions == 1


def test_a_lease_pins_the_windows_of_the_prompt_and_of_the_answer():
    s = sliding(blocks=100, watermark=0.9)
    turn = sequence("turn", list(range(40)), limit=41, session="s")
    s.add(turn)
    run_all(s)
    assert s.pool.kept == 40 + 4 + 4
    s.pool.allocate(s.pool.allocatable)
    assert s.found_tokens(sequence("whole", [*turn.token_ids, 1])) == 80
    assert s.found_tokens(sequence("prompt", [*range(40), 200])) == 40


@pytest.mark.parametrize("most", [10, 20, 60])
def test_a_lease_that_may_not_claim_all_claims_a_prefix_that_can_be_found(most):
    s = sliding(blocks=100, watermark=most / 200)
    turn = sequence("turn", list(range(120)), limit=2, session="s")
    s.add(turn)
    run_all(s)
    assert most // 2 < s.pool.kept <= most
    s.pool.allocate(s.pool.allocatable)
    assert s.found_tokens(turn) >= 2 * (most - 8 if most > 12 else most // 3)


def test_spoilt_window_blocks_are_not_found_even_if_given_back():
    s = sliding()
    bad = sequence("bad", list(range(100)))
    s.add(bad)
    run_step(s, s.schedule())
    run_step(s, s.schedule())
    assert len(window_blocks_found(s, bad)) == 16
    s.disown(bad)
    s.remove(bad)
    assert (window_blocks_found(s, bad), s.pool.cached, s.pool.used) == ([], 0, 0)
    s.pool.check()


def test_a_prompt_is_cut_to_the_window_blocks_that_are_left():
    s = sliding(max_step_tokens=64)
    one = sequence("a", list(range(100)), limit=1)
    s.add(one)
    others = s.pool.allocate(s.pool.total - 50 - 10)
    assert shape(s.schedule()) == [("a", 20)]
    run_step(s, s.schedule())
    s.pool.release(others)
    run_all(s)
    assert one.finish_reason == "length"


def test_a_prompt_that_cannot_go_on_gives_way_and_comes_back():
    s = sliding()
    one = sequence("a", list(range(60)), limit=1)
    s.add(one)
    run_step(s, s.schedule())
    others = s.pool.allocate(s.pool.available)
    assert s.schedule() == []
    assert (list(s.waiting), s.running, one.preemptions) == ([one], [], 1)
    s.pool.release(others)
    run_all(s)
    assert one.finish_reason == "length"
