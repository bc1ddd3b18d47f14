"""How much of this machine the process may really use."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_cores(quota: Path = _QUOTA) -> int:
    """Cores by affinity and by the container's CPU quota, at least 1.

    torch by itself counts the machine's cores: under a quota its threads would then be throttled together."""
    cores = len(os.sched_getaffinity(0))
    try:
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, int(limit) // int(period))
    except (OSError, ValueError):  # no control groups, or of the first version
        pass
    return max(1, cores)


def available_memory(memory: Path = _MEMORY, group: Path = _GROUP) -> int:
    """Bytes that can be allocated without swapping, by the system and by the container's limit."""
    fields = dict(line.split(":", 1) for line in memory.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()) + _page_cache(group))
    except (OSError, ValueError):  # no control groups, or of the first version
        pass
    return max(0, free)


def _page_cache(group: Path) -> int:
    """Bytes of files that the group has read, which count as its memory and are given up when it needs some.

    Without them a checkpoint that was just read, or built, would look like memory in use."""
    pairs = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(size) for name, size in pairs if name in ("inactive_file", "active_file"))
