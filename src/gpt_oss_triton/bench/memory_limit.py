"""How fast this machine reads memory, and what that allows a model: the limit that a decode step runs into."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.plan import ends_bytes, expert_bytes, layer_bytes
from gpt_oss_triton.engine.part import Part

COLD_BYTES = 2**30  # read between two measurements: more than caches hold
ROUNDS = 5


class Clock:
    """Times what is computed on a device, its weights not in any cache."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cold = torch.ones(COLD_BYTES // 4, device=device)

    def seconds(self, compute: Callable[[], object]) -> float:
        """The median of several rounds. On a GPU what is launched waits behind a long read, so that the time of
        launching it does not count."""
        times = []
        for _ in range(ROUNDS + 1):
            self._cold.sum()
            times.append(self._gpu(compute) if self.device.type == "cuda" else self._cpu(compute))
        return sorted(times[1:])[ROUNDS // 2]  # the first one compiles

    def bandwidth(self) -> float:
        """Bytes read in a second."""
        other = self._cold.clone()
        return other.nbytes / self.seconds(other.sum)

    @staticmethod
    def _cpu(compute: Callable[[], object]) -> float:
        began = time.perf_counter()
        compute()
        return time.perf_counter() - began

    @staticmethod
    def _gpu(compute: Callable[[], object]) -> float:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        compute()
        ended.record()
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1000


def chosen_experts(config: ModelConfig, sequences: int) -> float:
    """How many of a layer's experts some of so many tokens are likely to choose."""
    missed = (1 - config.experts_per_token / config.experts) ** sequences
    return config.experts * (1 - missed)


def step_bytes(
    config: ModelConfig, dtype: torch.dtype, device: torch.device, sequences: int, context: int
) -> float:
    """That a decode step must read: weights once, of the experts those that are chosen, and every sequence's keys
    and values. Of the embedding it is one row a token: nothing."""
    c = config
    idle = c.experts - chosen_experts(c, sequences)
    layer = layer_bytes(c, dtype, device) - idle * expert_bytes(c, dtype, device)
    seen = sum(min(context, c.sliding_window) if sliding else context for sliding in c.is_sliding)
    keys = sequences * seen * Part(0, 1).token_bytes(c, dtype.itemsize)
    return c.layers * layer + ends_bytes(c, dtype) / 2 + keys
