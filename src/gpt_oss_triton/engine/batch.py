"""One step's work as tensors: what the model reads, and nothing about who asked for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gpt_oss_triton.engine.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive new tokens of one sequence: positions [start, start + len(token_ids))."""

    token_ids: list[int]
    start: int
    blocks: list[int]  # the sequence's block table, long enough for start + len(token_ids) tokens
    sample: bool  # the last token's logits are wanted


@dataclass(frozen=True, slots=True)
class KeyView:
    """Which cache slots a group of queries may see.

    Attributes:
        slots: int64 [batch * keys], flat cache slots. Shorter rows are padded with a slot of their own, which
            the mask hides: what another sequence left in a slot must not reach them, were it NaN.
        mask: [batch, 1, queries * heads per KV head, keys] additive, in the model's dtype.
    """

    slots: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Segments of equal length that attend together: all decodes of a step, or one prefill chunk.

    Attributes:
        first, last: its rows in the batch; last is exclusive.
        batch, queries: sequences, and tokens of each.
        full, sliding: the keys of full and of sliding layers.
    """

    first: int
    last: int
    batch: int
    queries: int
    full: KeyView
    sliding: KeyView


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Attributes:
        token_ids, positions, slots: int64 [tokens]; `slots` is where each token's key and value go.
        groups: cover all rows, in order.
        sample_rows: int64 [samples], rows whose logits are wanted, in the order of the segments.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    groups: list[AttentionGroup]
    sample_rows: torch.Tensor


class BatchBuilder:
    """Turns segments into a Batch for one model on one device."""

    def __init__(
        self, config: ModelConfig, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._window = config.sliding_window
        self._heads_per_kv = config.heads // config.kv_heads
        self._block_size = block_size
        self._dtype = dtype
        self._device = device

    def build(self, segments: list[Segment]) -> Batch:
        """`segments`: single tokens first, so that all decodes make one group."""
        slots = [self._slot_table(segment) for segment in segments]
        rows = [len(segment.token_ids) for segment in segments]
        decodes = next((i for i, n in enumerate(rows) if n > 1), len(rows))
        groups = [self._group(segments[:decodes], slots[:decodes], 0)] if decodes else []
        first = decodes
        for segment, table in zip(segments[decodes:], slots[decodes:], strict=True):
            groups.append(self._group([segment], [table], first))
            first += len(segment.token_ids)
        ends = torch.tensor(rows).cumsum(0) - 1
        wanted = torch.tensor([segment.sample for segment in segments])
        return Batch(
            token_ids=torch.tensor([t for s in segments for t in s.token_ids], device=self._device),
            positions=torch.cat([torch.arange(s.start, s.start + len(s.token_ids)) for s in segments]).to(
                self._device
            ),
            slots=torch.cat([t[s.start :] for s, t in zip(segments, slots, strict=True)]).to(self._device),
            groups=groups,
            sample_rows=ends[wanted].to(self._device),
        )

    def _slot_table(self, segment: Segment) -> torch.Tensor:
        """int64 [context]: the cache slot of every position up to the segment's last."""
        blocks = torch.tensor(segment.blocks)
        slots = blocks.unsqueeze(1) * self._block_size + torch.arange(self._block_size)
        return slots.flatten()[: segment.start + len(segment.token_ids)]

    def _group(self, segments: list[Segment], slots: list[torch.Tensor], first: int) -> AttentionGroup:
        queries = len(segments[0].token_ids)
        return AttentionGroup(
            first=first,
            last=first + len(segments) * queries,
            batch=len(segments),
            queries=queries,
            full=self._view(segments, slots, queries, None),
            sliding=self._view(segments, slots, queries, self._window),
        )

    def _view(
        self, segments: list[Segment], slots: list[torch.Tensor], queries: int, window: int | None
    ) -> KeyView:
        # Keys before the first query's window are not gathered at all.
        starts = [0 if window is None else max(0, s.start - window + 1) for s in segments]
        seen = [table[begin:] for table, begin in zip(slots, starts, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(seen, batch_first=True, padding_value=-1)
        padded = torch.where(padded < 0, padded[:, :1], padded)
        key = torch.arange(padded.shape[1]) + torch.tensor(starts).unsqueeze(1)  # [batch, keys] positions
        query = torch.tensor([s.start for s in segments]).unsqueeze(1) + torch.arange(
            queries
        )  # [batch, queries]
        distance = query.unsqueeze(2) - key.unsqueeze(1)
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(hidden.shape, dtype=self._dtype).masked_fill_(hidden, -math.inf)
        mask = mask.repeat_interleave(self._heads_per_kv, dim=1).unsqueeze(1)
        return KeyView(padded.flatten().to(self._device), mask.to(self._device))
