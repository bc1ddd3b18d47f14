"""One step's work as tensors: what the model reads, and nothing about who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch

from gpt_oss_triton.kernels.layout import PagedLayout, Span
from gpt_oss_triton.kernels.transfer import upload


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive new tokens of one sequence: positions [start, start + len(token_ids)).

    Attributes:
        blocks: the sequence's block table, long enough for start + len(token_ids) tokens.
        window_blocks: that of its sliding layers, as long; what is out of the window may be anything.
        sample: the last token's logits are wanted,
        drafted: and those of so many tokens before it.
        carried: the last token is what the step before sampled in this row, and no id is known yet.
    """

    token_ids: list[int]
    start: int
    blocks: list[int]
    window_blocks: list[int]
    sample: bool
    drafted: int = 0
    carried: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Attributes:
        token_ids, positions: int64 [tokens].
        layout: where the tokens stand in the cache of a full layer,
        window_layout: and in that of a sliding one.
        sample_rows: int64 [samples], rows whose logits are wanted, in the order of the segments.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    layout: PagedLayout
    window_layout: PagedLayout
    sample_rows: torch.Tensor


class BatchBuilder:
    """Turns segments into a Batch on one device."""

    def __init__(self, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        self._device = device

    def build(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> Batch:
        """
        Args:
            segments: single tokens first, so that all decodes make one group.
            sampled: int64 [rows], what the step before sampled; needed where a token is `carried`.
        """
        ends = list(accumulate(len(segment.token_ids) for segment in segments))
        rows = [(end - len(segment.token_ids), end) for segment, end in zip(segments, ends, strict=True)]
        spans = [Span(*own, s.start, s.blocks) for own, s in zip(rows, segments, strict=True)]
        window_spans = [Span(*own, s.start, s.window_blocks) for own, s in zip(rows, segments, strict=True)]
        token_ids = self._tensor([t for s in segments for t in s.token_ids])
        carry(token_ids, segments, [end - 1 for end in ends], sampled)
        return Batch(
            token_ids=token_ids,
            positions=self._tensor([p for s in spans for p in range(s.start, s.end)]),
            layout=PagedLayout(spans, self._block_size, self._device),
            window_layout=PagedLayout(window_spans, self._block_size, self._device),
            sample_rows=self._tensor(
                [
                    n
                    for s, e in zip(segments, ends, strict=True)
                    if s.sample
                    for n in range(e - 1 - s.drafted, e)
                ]
            ),
        )

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return upload(values, self._device)


def carry(
    token_ids: torch.Tensor, segments: list[Segment], last: list[int], sampled: torch.Tensor | None
) -> None:
    """Fill in the tokens that are `carried`. `last`: the row of each segment's last token."""
    rows = [(row, s.carried) for row, s in zip(last, segments, strict=True) if s.carried is not None]
    if not rows:
        return
    assert sampled is not None, "a carried token without the step that it comes from"
    to, source = upload([list(pair) for pair in rows], token_ids.device).unbind(1)
    token_ids.index_copy_(0, to, sampled.index_select(0, source).clamp(min=0))  # -1: its sequence will fail
