"""How many CPU cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


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
