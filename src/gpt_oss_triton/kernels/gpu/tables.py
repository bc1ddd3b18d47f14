"""A batch's place in the paged cache, as the attention kernels read it on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt_oss_triton.kernels.layout import PagedLayout
from gpt_oss_triton.kernels.transfer import upload


@dataclass(frozen=True, slots=True)
class Tables:
    """Sequences of one new token each come first; those of several follow.

    Attributes:
        decodes: how many sequences have one new token; as many rows are theirs.
        starts: int32 [the other sequences + 1], where their rows begin among those that follow.
        lengths: int32 [sequences], tokens in the cache, the new ones included.
        blocks: int32 [sequences, most blocks], the block tables, filled up with 0.
        slots: int64 [rows], where each row's key and value go.
    """

    decodes: int
    starts: torch.Tensor
    lengths: torch.Tensor
    blocks: torch.Tensor
    slots: torch.Tensor

    @classmethod
    def of(cls, layout: PagedLayout, device: torch.device) -> Tables:
        """The layout's tables, copied to the GPU once for all layers. Whoever replays a CUDA graph gives its layout
        the tables that the graph reads, and fills them."""
        if layout.tables is None:
            layout.tables = cls._made_from(layout, device)
        tables: Tables = layout.tables
        return tables

    @classmethod
    def _made_from(cls, layout: PagedLayout, device: torch.device) -> Tables:
        spans = layout.spans
        decodes = next((n for n, s in enumerate(spans) if s.last - s.first > 1), len(spans))
        most = max(len(s.blocks) for s in spans)
        blocks = [[*s.blocks, *[0] * (most - len(s.blocks))] for s in spans]
        rows = [s.first for s in spans[decodes:]] + [spans[-1].last]
        return cls(
            decodes,
            upload([row - rows[0] for row in rows], device, torch.int32),
            upload([s.end for s in spans], device, torch.int32),
            upload(blocks, device, torch.int32),
            layout.slots,
        )
