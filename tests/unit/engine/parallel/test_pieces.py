"""A step cut for a pipeline."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.engine.batch import Segment
from gpt_oss_triton.engine.parallel.pipeline import PIECE_TOKENS, cut

lengths = st.lists(st.integers(1, 3 * PIECE_TOKENS), min_size=1, max_size=8)


@given(lengths, st.integers(2, 5))
def test_every_token_once_in_order_and_sampled_where_it_was(sizes, ranks):
    segments = [
        Segment(
            [100 * n + i for i in range(size)], start=7 * n, blocks=[n], window_blocks=[-n], sample=n % 3 > 0
        )
        for n, size in enumerate(sizes)
    ]
    pieces = cut(segments, ranks)
    tokens = sum(sizes)
    assert len(pieces) == max(1, min(ranks, tokens // PIECE_TOKENS))
    assert all(sum(len(s.token_ids) for s in piece) <= -(-tokens // len(pieces)) for piece in pieces)
    for n, segment in enumerate(segments):
        own = [part for piece in pieces for part in piece if part.blocks == [n]]
        assert all(part.window_blocks == [-n] for part in own)
        assert [t for part in own for t in part.token_ids] == segment.token_ids
        starts = [segment.start + sum(len(p.token_ids) for p in own[:k]) for k in range(len(own))]
        assert [part.start for part in own] == starts
        assert [part.sample for part in own] == [False] * (len(own) - 1) + [segment.sample]


def test_what_is_sampled_together_stays_together():
    drafted = [
        Segment([1] * 9, 5, [n], [n], sample=True, drafted=8) for n in range(2 * PIECE_TOKENS // 9 + 1)
    ]
    pieces = cut(drafted, 2)
    assert len(pieces) <= 2
    assert [segment for piece in pieces for segment in piece] == drafted


def test_a_step_of_decodes_stays_whole():
    """Each piece would read all weights again."""
    assert len(cut([Segment([1], 5, [0], [1], sample=True)] * (2 * PIECE_TOKENS - 1), 4)) == 1
