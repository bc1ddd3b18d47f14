"""Shared-memory regions of Triton's Python backend, which a killed stub leaves behind.

A region is ours by the prefix that the server was started with.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a temporary file
_STUB_START_S = 2.0  # a server starts a region's stub some milliseconds after making the region


def regions(prefix: str) -> list[str]:
    """Names of the regions under /dev/shm that start with `prefix`, sorted.

    Raises:
        ValueError: an empty prefix, which would name the regions of every program.
    """
    if not prefix:
        raise ValueError("the prefix of our shared-memory regions must not be empty")
    return sorted(path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(prefix))


def sweep(prefix: str) -> list[str]:
    """Remove the regions that no live stub uses; returns the names of the removed ones.

    A region serves one stub and its server. When a stub was killed with requests in flight, those never
    end, so the server never lets go of the region: what counts is the stub. A region that is only just
    made, for a stub that is still to come, is left alone.

    Safe while a server runs. The list is taken before the processes are looked at, so a region that
    appears meanwhile is not on it.
    """
    candidates = regions(prefix)
    if not candidates:
        return []
    by_stubs, by_servers = _held_paths(prefix)
    removed = []
    for name in candidates:
        path = SHARED_MEMORY / name
        with contextlib.suppress(FileNotFoundError):  # its owner was faster
            awaits_stub = path in by_servers and time.time() - path.stat().st_ctime < _STUB_START_S
            if path not in by_stubs and not awaits_stub:
                path.unlink()
                removed.append(name)
    return removed


def _held_paths(prefix: str) -> tuple[set[Path], set[Path]]:
    """Paths under /dev/shm with our prefix that processes have open or mapped: by stubs and others, by
    tritonservers.

    A region is open before it is mapped and may be closed after. Reading a process's descriptors before
    its maps therefore misses it at no moment of its life.
    """
    wanted = str(SHARED_MEMORY / prefix)
    by_stubs: set[Path] = set()
    by_servers: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end meanwhile. Another user's cannot be read, and cannot hold what only we may open.
        with contextlib.suppress(OSError):
            held = by_servers if (process / "comm").read_text() == "tritonserver\n" else by_stubs
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    held.add(descriptor.readlink())
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if wanted in line:
                    held.add(Path(line.split(maxsplit=5)[5]))  # address perms offset device inode path
    return by_stubs, by_servers
