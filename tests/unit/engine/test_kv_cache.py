"""The block pool keeps its books whatever is done to it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_triton.engine.kv_cache import BlockPool, chain_hash, first_link


def names_of(token_ids, size, salt=""):
    names, previous = [], first_link(salt)
    for begin in range(0, len(token_ids) - size + 1, size):
        previous = chain_hash(previous, token_ids[begin : begin + size])
        names.append(previous)
    return names


def test_a_name_depends_on_everything_before_the_block():
    one, other = names_of([1, 2, 3, 4], 2), names_of([9, 2, 3, 4], 2)
    assert one[1] != other[1]
    assert names_of([1, 2, 3, 4, 5], 2) == one


def test_salts_keep_prefixes_apart():
    chains = [names_of([1, 2, 3, 4], 2, salt) for salt in ("", "a", "b")]
    assert len({name for names in chains for name in names}) == 6
    assert names_of([1, 2, 3, 4], 2, "a") == chains[1]


def test_released_prefix_is_found_again_and_a_partial_block_is_not():
    pool = BlockPool(8, 2)
    blocks = pool.allocate(3)
    names = names_of([1, 2, 3, 4, 5], 2)
    for block, name in zip(blocks, names, strict=False):
        pool.publish(block, name)
    pool.release(blocks)
    assert (pool.used, pool.cached, pool.available) == (0, 2, 8)
    assert pool.match(names) == blocks[:2]
    assert pool.match(names_of([1, 2, 9, 9], 2)) == blocks[:1]


def test_sharing_counts_holders():
    pool = BlockPool(4, 2)
    blocks = pool.allocate(1)
    pool.publish(blocks[0], b"n")
    assert pool.unclaimed(blocks) == 0
    pool.take(blocks)
    pool.release(blocks)
    assert pool.used == 1
    pool.release(blocks)
    assert (pool.used, pool.cached, pool.unclaimed(blocks)) == (0, 1, 1)


def test_least_recently_released_prefix_is_evicted_first_and_tails_before_heads():
    pool = BlockPool(4, 1)
    first, second = pool.allocate(2), pool.allocate(2)
    for n, block in enumerate([*first, *second]):
        pool.publish(block, bytes([n]))
    pool.release(first)
    pool.release(second)
    pool.allocate(1)
    assert pool.match([bytes([1])]) == [], "the tail of the first sequence goes first"
    assert pool.match([bytes([0])]) == [first[0]]


def test_a_pinned_block_is_cached_and_found_but_not_handed_out():
    pool = BlockPool(3, 1)
    blocks = pool.allocate(2)
    pool.publish(blocks[0], b"pinned")
    pool.publish(blocks[1], b"other")
    pool.pin(blocks[:1])
    pool.release(blocks)
    assert (pool.cached, pool.kept, pool.available, pool.allocatable) == (2, 1, 3, 2)
    pool.allocate(2)
    assert pool.match([b"pinned"]) == blocks[:1]
    pool.check()


def test_a_pinned_block_can_be_taken_and_comes_back_pinned():
    pool = BlockPool(2, 1)
    blocks = pool.allocate(1)
    pool.publish(blocks[0], b"n")
    pool.release(blocks)
    pool.pin(blocks)
    pool.take(blocks)
    assert (pool.used, pool.kept, pool.pinned) == (1, 0, 1)
    pool.check()
    pool.release(blocks)
    assert (pool.used, pool.kept, pool.pinned) == (0, 1, 1)


def test_a_block_stays_pinned_until_its_last_pin_is_off():
    pool = BlockPool(2, 1)
    blocks = pool.allocate(1)
    pool.publish(blocks[0], b"n")
    pool.release(blocks)
    pool.pin(blocks)
    pool.pin(blocks)
    pool.unpin(blocks)
    assert (pool.kept, pool.pinned) == (1, 1)
    pool.unpin(blocks)
    assert (pool.kept, pool.pinned, pool.cached) == (0, 0, 1)


def test_unpinned_blocks_are_the_first_to_go_tails_before_heads():
    pool = BlockPool(4, 1)
    claimed, others = pool.allocate(2), pool.allocate(2)
    for n, block in enumerate([*claimed, *others]):
        pool.publish(block, bytes([n]))
    pool.pin(claimed)
    pool.release(claimed)
    pool.release(others)
    pool.unpin(claimed)
    assert pool.allocate(3) == [claimed[1], claimed[0], others[1]]


def test_what_is_first_to_go_goes_before_what_was_released_earlier():
    pool = BlockPool(3, 1)
    blocks = pool.allocate(3)
    for n, block in enumerate(blocks):
        pool.publish(block, bytes([n]))
    pool.release(blocks[:1])
    pool.release(blocks[1:2], first_to_go=True)
    pool.release(blocks[2:])
    assert [pool.find(bytes([n])) for n in range(4)] == [*blocks, None]
    assert pool.allocate(3) == [blocks[1], blocks[0], blocks[2]]


def test_what_is_disowned_is_found_no_more_whether_it_is_held_or_cached():
    pool = BlockPool(2, 1)
    blocks = pool.allocate(2)
    for n, block in enumerate(blocks):
        pool.publish(block, bytes([n]))
    pool.release(blocks[1:])
    pool.disown(blocks)
    pool.check()
    assert (pool.used, pool.cached, pool.match([bytes([0])]), pool.find(bytes([1]))) == (1, 0, [], None)


def test_without_prefix_cache_nothing_is_kept():
    pool = BlockPool(2, 1, keep_prefixes=False)
    blocks = pool.allocate(1)
    pool.publish(blocks[0], b"n")
    pool.release(blocks)
    assert pool.match([b"n"]) == []
    assert pool.cached == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 24), st.integers(1, 3))
def test_random_use_keeps_the_invariants(seed, blocks, size):
    rng = random.Random(seed)
    pool = BlockPool(blocks, size)
    held: list[list[int]] = []
    for _ in range(120):
        if held and rng.random() < 0.45:
            pool.release(held.pop(rng.randrange(len(held))))
        else:
            tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 5 * size))]
            names = names_of(tokens, size)
            shared = pool.match(names)
            fresh = -(-len(tokens) // size) - len(shared)
            if pool.available < fresh + pool.unclaimed(shared):
                continue
            pool.take(shared)
            mine = shared + pool.allocate(fresh)
            for block, name in zip(mine, names, strict=False):
                pool.publish(block, name)
            held.append(mine)
        pool.check()
        assert pool.used == len({b for mine in held for b in mine})
    for mine in held:
        pool.release(mine)
    pool.check()
    assert pool.used == 0


def test_check_notices_a_pin_too_many_taken_off():
    pool = BlockPool(2, 1)
    block = pool.allocate(1)
    pool.publish(block[0], b"n")
    pool.pin(block)
    pool.unpin(block)
    pool.unpin(block)
    with pytest.raises(AssertionError):
        pool.check()


def test_check_notices_a_double_release():
    pool = BlockPool(2, 1)
    blocks = pool.allocate(1)
    pool.release(blocks)
    pool.release(blocks)
    with pytest.raises(AssertionError):
        pool.check()
