"""How many blocks tokens take, and that what is kept is what is needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.block_shape import BlockShape

GPT_OSS = BlockShape(16, 128)

sizes = st.sampled_from([1, 2, 8, 16, 64])
windows = st.integers(1, 300)


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(0, 0), (1, 2), (16, 2), (17, 4), (128, 16), (129, 18), (144, 17), (145, 19), (8192, 520)]
)  # fmt: skip
def test_a_sequence_holds_full_blocks_for_all_and_window_blocks_for_the_last_of_its_tokens(
    tokens: int, blocks: int
) -> None:
    assert GPT_OSS.held(tokens) == blocks
    assert BlockShape(16).held(tokens) == -(-tokens // 16)


def test_long_contexts_take_half() -> None:
    """In the bytes of blocks that hold all layers, of which one is two of these."""
    assert GPT_OSS.held(100_000) / 2 < 0.501 * BlockShape(16).held(100_000)


@given(sizes, windows, st.integers(0, 5000))
def test_the_next_token_sees_no_block_that_is_given_back(size: int, window: int, tokens: int) -> None:
    shape = BlockShape(size, window)
    first_seen = max(0, tokens - window + 1) // size
    assert shape.first_kept(tokens) <= first_seen
    assert shape.held(tokens) <= shape.count(tokens) + shape.reach + 1
    # Nor does that of another sequence which begins with the same full blocks.
    shared = tokens // size * size
    assert shape.first_kept(tokens) == shape.first_kept(shared) <= max(0, shared - window + 1) // size


@given(sizes, windows, st.integers(0, 3000), st.integers(0, 200))
def test_what_is_to_be_filled_and_what_is_cached_make_what_is_held(
    size: int, window: int, tokens: int, cached: int
) -> None:
    shape = BlockShape(size, window)
    cached = min(cached, tokens // size) * size
    window_blocks = range(shape.first_kept(tokens), shape.count(tokens))
    of_the_cache = cached // size + sum(n < cached // size for n in window_blocks)
    assert shape.held(tokens, cached) == shape.held(tokens) - of_the_cache


@given(sizes, st.integers(0, 300), st.integers(0, 3000))
def test_the_longest_sequence_is_the_last_that_fits(size: int, window: int, blocks: int) -> None:
    shape = BlockShape(size, window)
    most = shape.most_tokens(blocks)
    assert shape.needed(most) <= blocks < shape.needed(most + 1)
    assert shape.held(most) <= shape.needed(most)
