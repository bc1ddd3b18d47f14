"""The ranks' exchange of tensors: gloo on CPUs, NCCL on GPUs.

A process group of its own, not torch's global one: an engine process may hold several engines, one after another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# All ranks are on one machine: they meet over the loopback, and no other network card is looked for.
ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_IB_DISABLE": "1",
    # Else each group looks for a sign at the file where the ranks met, which is gone by then, and its end waits for that.
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
}


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a hidden state looks like that crosses the ranks."""

    size: int
    dtype: torch.dtype
    device: torch.device

    def empty(self, rows: int) -> torch.Tensor:
        return torch.empty(rows, self.size, dtype=self.dtype, device=self.device)


class Group:
    """
    Attributes:
        rank, ranks: this process's number, and how many there are.
    """

    def __init__(self, meeting: Path, rank: int, ranks: int, device: torch.device, timeout_s: float) -> None:
        """Meet the others, who must do the same.

        Args:
            meeting: a file that does not exist before the first one comes.
            timeout_s: for the meeting and for each exchange; beyond it RuntimeError. An exchange by NCCL waits on the GPU: what
                ends it is `abort`, or NCCL's own watchdog, which ends this process.
        """
        self.rank, self.ranks = rank, ranks
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        store = dist.FileStore(str(meeting), ranks)  # type: ignore[attr-defined]  # documented, yet untyped
        timeout = timedelta(seconds=timeout_s)
        self._is_nccl = device.type == "cuda"
        self._backend: Any  # torch's types leave out what a backend can do
        if self._is_nccl:
            # Its stream goes before others: the sums are what the next kernel waits for.
            options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True)
            options._timeout = timeout
            self._backend = dist.ProcessGroupNCCL(store, rank, ranks, options)
        else:
            self._backend = dist.ProcessGroupGloo(store, rank, ranks, timeout)
        # Connections that are made at first use are made now, while the file that they meet at is there.
        self.sum(torch.zeros(1, device=device))
        for low, high in combinations(range(ranks), 2):
            if rank == low:
                self.send(torch.zeros(1, device=device), high).wait()
            elif rank == high:
                self.receive(torch.zeros(1, device=device), low)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place and returned; the same bits at each."""
        if tensor.numel():
            self._backend.allreduce([tensor]).wait()
        return tensor

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Rank 0's values into everybody's `tensor`."""
        self._backend.broadcast([tensor], dist.BroadcastOptions()).wait()

    def send(self, tensor: torch.Tensor, to: int) -> dist.Work:
        """Begin to send; `tensor` must stay as it is until what is returned was waited for."""
        work: dist.Work = self._backend.send([tensor], to, 0)
        return work

    def receive(self, tensor: torch.Tensor, origin: int) -> None:
        """Fill the contiguous `tensor` with what `origin` sends."""
        self._backend.recv([tensor], origin, 0).wait()

    def abort(self) -> None:
        """End the exchange that another thread waits in: a rank is gone. gloo sees that by itself."""
        if self._is_nccl:
            self._backend.abort()
