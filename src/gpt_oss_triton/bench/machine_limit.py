"""How fast this machine reads memory and multiplies: the limits that a step runs into."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from gpt_oss_triton.bench.model_work import Work

COLD_BYTES = 2**30  # read between two measurements: more than caches hold
ROUNDS = 5
SIDE = 4096  # of the matrices whose product is timed
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


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

    def products(self, dtype: torch.dtype) -> float:
        """Multiply-adds in a second, of large matrices of `dtype`."""
        a, b = (torch.ones(SIDE, SIDE, dtype=dtype, device=self.device) for _ in range(2))
        return float(SIDE**3 / self.seconds(lambda: a @ b))

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


class Machine(msgspec.Struct, frozen=True):
    """
    Attributes:
        bandwidth: bytes read from memory in a second.
        products: multiply-adds of the model's dtype in a second.
        cache_bytes: that its largest cache holds.
    """

    name: str
    bandwidth: float
    products: float
    cache_bytes: int

    @classmethod
    def measured(cls, clock: Clock, dtype: torch.dtype) -> Machine:
        """Runs for a few seconds; nothing else should."""
        name = device_name(clock.device)
        return cls(name, clock.bandwidth(), clock.products(dtype), _cache_bytes(clock.device))

    def better_of(self, other: Machine) -> Machine:
        """With the faster rates of two measurements of one machine."""
        return Machine(
            self.name,
            max(self.bandwidth, other.bandwidth),
            max(self.products, other.products),
            self.cache_bytes,
        )

    def seconds(self, work: Work) -> float:
        """Less than this a step cannot take: its reading and its products overlap at best, and a cache keeps at best
        all that it holds from one step to the next."""
        return max((work.bytes - self.cache_bytes) / self.bandwidth, work.products / self.products)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads"


def _cache_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [path.read_text().strip() for path in _CPU_CACHES.glob("index*/size")]
    return max((int(size.removesuffix("K")) * 1024 for size in sizes), default=0)
