"""Where a step's tokens stand in the paged cache, and how the kernels want to be told."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from gpt_oss_triton.kernels.transfer import send


@dataclass(frozen=True, slots=True)
class Span:
    """Rows [first, last) of a batch: one sequence's tokens at positions start, start + 1, …

    `blocks` is the sequence's block table, long enough for the last of them. Where attention has a window, entries of
    blocks that none of them sees may be anything.
    """

    first: int
    last: int
    start: int
    blocks: list[int]

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + self.last - self.first


@dataclass(frozen=True, slots=True)
class KeyView:
    """Which cache slots a group of queries may see.

    Attributes:
        slots: int64 [batch * keys], flat cache slots. Shorter rows are padded with a slot of their own, which
            the mask hides: what another sequence left in a slot must not reach them, were it NaN.
        mask: [batch, 1, queries * heads per KV head, keys] additive, in the queries' dtype.
    """

    slots: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Spans of equal length that attend together: rows [first, last), `batch` sequences of `queries` tokens."""

    first: int
    last: int
    batch: int
    queries: int
    keys: KeyView


class PagedLayout:
    """The spans of one batch. What a kernel derives from them is made when it is first asked for.

    Attributes:
        tables: what the GPU's kernels read instead; see `gpu.tables.Tables.of`.
    """

    def __init__(self, spans: list[Span], block_size: int, device: torch.device) -> None:
        """`spans`: single tokens first, so that all decodes make one group."""
        self.spans = spans
        self.block_size = block_size
        self.tables: Any = None
        self._device = device
        self._groups: dict[tuple[int | None, int, torch.dtype], list[Group]] = {}

    # ------------------------------------------------------------ for kernels that read the pages

    @cached_property
    def packed_spans(self) -> torch.Tensor:
        """int32 [spans, 4]: first, last, start, and where the block table begins in `packed_blocks`."""
        packed, offset = array("i"), 0
        for span in self.spans:
            packed.extend((span.first, span.last, span.start, offset))
            offset += len(span.blocks)
        return torch.frombuffer(packed, dtype=torch.int32)

    @cached_property
    def packed_blocks(self) -> torch.Tensor:
        """int32, all block tables one after the other."""
        packed = array("i")
        for span in self.spans:
            packed.extend(span.blocks)
        return torch.frombuffer(packed, dtype=torch.int32)

    @cached_property
    def all_rows(self) -> torch.Tensor:
        """int32, every row."""
        return torch.arange(self.spans[-1].last, dtype=torch.int32)

    # ------------------------------------------------------------ for attention that gathers its keys

    @cached_property
    def slots(self) -> torch.Tensor:
        """int64 [tokens]: where each token's key and value go."""
        tables = [table[span.start :] for span, table in zip(self.spans, self._tables, strict=True)]
        return send(torch.cat(tables), self._device)

    def groups(self, window: int | None, heads_per_kv: int, dtype: torch.dtype) -> list[Group]:
        """All rows, in order. `window`: tokens a query sees, itself included; None: all before it."""
        key = (window, heads_per_kv, dtype)
        if key not in self._groups:
            decodes = next((n for n, s in enumerate(self.spans) if s.last - s.first > 1), len(self.spans))
            parts = [range(decodes)] if decodes else []
            parts += [range(n, n + 1) for n in range(decodes, len(self.spans))]
            self._groups[key] = [self._group(part, window, heads_per_kv, dtype) for part in parts]
        return self._groups[key]

    @cached_property
    def _tables(self) -> list[torch.Tensor]:
        """Of each span int64 [context]: the cache slot of every position up to its last."""
        offsets = torch.arange(self.block_size)
        return [
            (torch.tensor(s.blocks).unsqueeze(1) * self.block_size + offsets).flatten()[: s.end]
            for s in self.spans
        ]

    def _group(self, part: range, window: int | None, heads_per_kv: int, dtype: torch.dtype) -> Group:
        spans = [self.spans[n] for n in part]
        queries = spans[0].last - spans[0].first
        # Keys before the first query's window are not gathered at all.
        starts = [0 if window is None else max(0, s.start - window + 1) for s in spans]
        seen = [self._tables[n][begin:] for n, begin in zip(part, starts, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(seen, batch_first=True, padding_value=-1)
        padded = torch.where(padded < 0, padded[:, :1], padded)
        key = torch.arange(padded.shape[1]) + torch.tensor(starts).unsqueeze(1)  # [batch, keys] positions
        query = torch.tensor([s.start for s in spans]).unsqueeze(1) + torch.arange(
            queries
        )  # [batch, queries]
        distance = query.unsqueeze(2) - key.unsqueeze(1)
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -math.inf)
        mask = mask.repeat_interleave(heads_per_kv, dim=1).unsqueeze(1)
        view = KeyView(send(padded.flatten(), self._device), send(mask, self._device))
        return Group(spans[0].first, spans[-1].last, len(spans), queries, view)
