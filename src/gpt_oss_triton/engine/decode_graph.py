"""Decode steps recorded once and replayed: a few hundred launches become one.

A recorded step has a fixed number of rows and reads its inputs from tensors that stay where they are, so each
replay fills them first. Fewer sequences than rows leave some that pad: their length is 0, so they read no keys,
and their slot -1, so they write none; what they compute is cut off. Sizes are powers of two: at most half of the
rows pad, and all graphs together take the memory of the largest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpt_oss_triton.engine.batch import Batch, Segment, carry
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.kernels.gpu.tables import Tables
from gpt_oss_triton.kernels.layout import PagedLayout

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
            record: `cuda_recorder`'s, or what stands in for it.
        """
        device = cache.device
        self._tokens, self._positions = torch.zeros(2, most_sequences, dtype=torch.int64, device=device)
        self._lengths = torch.zeros(most_sequences, dtype=torch.int32, device=device)
        self._full = _KindInputs(most_sequences, most_blocks, block_size, device)
        self._window = _KindInputs(most_sequences, most_blocks, block_size, device)
        # The largest first: the others then fit into the memory that it took.
        self._replays = {
            size: record(self._step(model, cache, size)) for size in reversed(graph_sizes(most_sequences))
        }

    @staticmethod
    def fit(segments: list[Segment]) -> bool:
        """Whether this is a step of decodes alone."""
        return all(len(segment.token_ids) == 1 and segment.sample for segment in segments)

    def replay(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> torch.Tensor:
        """[sequences, hidden], as `Model.forward` has it. `segments`: at most `most_sequences`, which `fit`. `sampled`:
        see `BatchBuilder.build`."""
        size = min(size for size in self._replays if size >= len(segments))
        self._fill(segments, size)
        carry(self._tokens, segments, list(range(len(segments))), sampled)
        return self._replays[size]()[: len(segments)]

    def _fill(self, segments: list[Segment], size: int) -> None:
        padding = size - len(segments)
        starts = [s.start for s in segments]
        _copy(self._tokens, [s.token_ids[0] for s in segments] + [0] * padding)
        _copy(self._positions, starts + [0] * padding)
        _copy(self._lengths, [start + 1 for start in starts] + [0] * padding)
        self._full.fill([s.blocks for s in segments], starts, padding)
        self._window.fill([s.window_blocks for s in segments], starts, padding)

    def _step(self, model: Model, cache: torch.Tensor, size: int) -> Compute:
        lengths, rows = self._lengths[:size], torch.arange(size, device=cache.device)
        full, window = self._full.layout(lengths), self._window.layout(lengths)
        batch = Batch(self._tokens[:size], self._positions[:size], full, window, rows)
        return lambda: model.forward(batch, cache)


class _KindInputs:
    """Block tables and slots of one kind of layers, where the recorded steps read them."""

    def __init__(self, most_sequences: int, most_blocks: int, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        self._slots = torch.full((most_sequences,), -1, dtype=torch.int64, device=device)
        self._blocks = torch.zeros(most_sequences, most_blocks, dtype=torch.int32, device=device)
        self._rows: list[list[int]] = [[] for _ in range(most_sequences)]  # what `_blocks` holds

    def fill(self, tables: list[list[int]], starts: list[int], padding: int) -> None:
        """`starts`: positions of the sequences' new tokens. So many rows behind them pad."""
        size = self._block_size
        slots = [
            table[start // size] * size + start % size for table, start in zip(tables, starts, strict=True)
        ]
        _copy(self._slots, slots + [-1] * padding)
        for row, table in enumerate(tables):
            if self._rows[row] != table:  # once in `block_size` steps, unless sequences change places
                _copy(self._blocks[row], table)
                self._rows[row] = list(table)

    def layout(self, lengths: torch.Tensor) -> PagedLayout:
        """Of as many sequences as have `lengths`, which are read at each replay."""
        size, device = len(lengths), lengths.device
        layout = PagedLayout([], self._block_size, device)  # its spans are told by the tables, at each replay
        starts = torch.zeros(1, dtype=torch.int32, device=device)
        layout.tables = Tables(size, starts, lengths, self._blocks[:size], self._slots[:size])
        return layout


def _copy(to: torch.Tensor, values: list[int]) -> None:
    held = torch.tensor(values, dtype=to.dtype, pin_memory=to.is_cuda)
    to[: len(values)].copy_(held, non_blocking=True)


def cuda_recorder(aside: torch.cuda.Stream) -> Record:
    """Records CUDA graphs that share one pool of memory.

    Args:
        aside: where each step runs once before it is recorded. cuBLAS keeps a workspace for each stream that it has seen.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Compute) -> Compute:
        # Kernels are compiled and libraries make their workspaces when they are first used: not while recording.
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
