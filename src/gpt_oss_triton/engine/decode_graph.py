"""Decode steps recorded once and replayed: a few hundred launches become one.

A recorded step has a fixed number of rows and reads its inputs from tensors that stay where they are, so each
replay fills them first. Fewer sequences than rows leave some that pad: their length is 0, so they read no keys,
and their slot -1, so they write none; what they compute is cut off. Sizes are powers of two: at most half of the
rows pad, and all graphs together take the memory of the largest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpt_oss_triton.engine.batch import Batch, Segment
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.kernels.gpu.tables import Tables
from gpt_oss_triton.kernels.layout import PagedLayout, Span

Compute = Callable[[], torch.Tensor]
Record = Callable[[Compute], Compute]  # what it returns computes the same, into the same memory each time


def graph_sizes(most: int) -> list[int]:
    """1, 2, 4 … and `most` sequences."""
    return [*(1 << n for n in range((most - 1).bit_length())), most]


class DecodeGraphs:
    """Used by one thread. What a replay returns is overwritten by the next one."""

    def __init__(
        self,
        model: Model,
        cache: torch.Tensor,
        *,
        block_size: int,
        most_sequences: int,
        most_blocks: int,
        record: Record,
    ) -> None:
        """Record a step of every size.

        Args:
            cache: what the recorded steps read and write from now on.
            most_blocks: of one sequence.
            record: `cuda_recorder()`, or what stands in for it.
        """
        self._block_size = block_size
        device = cache.device
        self._tokens, self._positions, self._slots = torch.zeros(
            3, most_sequences, dtype=torch.int64, device=device
        )
        self._lengths = torch.zeros(most_sequences, dtype=torch.int32, device=device)
        self._blocks = torch.zeros(most_sequences, most_blocks, dtype=torch.int32, device=device)
        self._rows: list[list[int]] = [[] for _ in range(most_sequences)]  # what `_blocks` holds
        self._slots.fill_(-1)
        # The largest first: the others then fit into the memory that it took.
        self._replays = {
            size: record(self._step(model, cache, size)) for size in reversed(graph_sizes(most_sequences))
        }

    @staticmethod
    def fit(segments: list[Segment]) -> bool:
        """Whether this is a step of decodes alone."""
        return all(len(segment.token_ids) == 1 and segment.sample for segment in segments)

    def replay(self, segments: list[Segment]) -> torch.Tensor:
        """[sequences, hidden], as `Model.forward` has it. `segments`: at most `most_sequences`, which `fit`."""
        size = min(size for size in self._replays if size >= len(segments))
        self._fill(segments, size)
        return self._replays[size]()[: len(segments)]

    def _fill(self, segments: list[Segment], size: int) -> None:
        padding = size - len(segments)
        tokens = [s.token_ids[0] for s in segments]
        slots = [
            s.blocks[s.start // self._block_size] * self._block_size + s.start % self._block_size
            for s in segments
        ]
        self._copy(self._tokens, tokens + [0] * padding)
        self._copy(self._positions, [s.start for s in segments] + [0] * padding)
        self._copy(self._slots, slots + [-1] * padding)
        self._copy(self._lengths, [s.start + 1 for s in segments] + [0] * padding)
        for row, segment in enumerate(segments):
            if (
                self._rows[row] != segment.blocks
            ):  # once in `block_size` steps, unless sequences change places
                self._rows[row] = list(segment.blocks)
                self._copy(self._blocks[row], segment.blocks)

    @staticmethod
    def _copy(to: torch.Tensor, values: list[int]) -> None:
        to[: len(values)].copy_(torch.tensor(values, dtype=to.dtype))

    def _step(self, model: Model, cache: torch.Tensor, size: int) -> Compute:
        layout = PagedLayout([Span(n, n + 1, 0, [0]) for n in range(size)], self._block_size, cache.device)
        starts = torch.zeros(1, dtype=torch.int32, device=cache.device)
        tables = Tables(size, starts, self._lengths[:size], self._blocks[:size], self._slots[:size])
        tables.bind(layout)
        rows = torch.arange(size, device=cache.device)
        batch = Batch(self._tokens[:size], self._positions[:size], layout, rows)
        return lambda: model.forward(batch, cache)


def cuda_recorder() -> Record:
    """Records CUDA graphs that share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Compute) -> Compute:
        # Kernels are compiled and libraries make their workspaces when they are first used: not while recording.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            result = compute()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    return record
