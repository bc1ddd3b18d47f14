"""Shared-memory regions of Triton's Python backend, which a killed stub leaves behind.

A region is ours by the prefix that the server was started with, and in use while any live process has it
open or mapped.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a temporary file


def regions(prefix: str) -> list[str]:
    """Names of the regions under /dev/shm that start with `prefix`, sorted.

    Raises:
        ValueError: an empty prefix, which would name the regions of every program.
    """
    if not prefix:
        raise ValueError("the prefix of our shared-memory regions must not be empty")
    return sorted(path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(prefix))


def sweep(prefix: str) -> list[str]:
    """Remove the regions that no live process holds; returns the names of the removed ones.

    Safe while a server runs, see `_held_paths`: the list is taken first, so a region that appears
    meanwhile is not on it.
    """
    candidates = regions(prefix)
    if not candidates:
        return []
    held = _held_paths(prefix)
    removed = []
    for name in candidates:
        path = SHARED_MEMORY / name
        if str(path) not in held:
            path.unlink(missing_ok=True)
            removed.append(name)
    return removed


def _held_paths(prefix: str) -> set[str]:
    """Every path under /dev/shm with our prefix that a process of this machine has open or mapped.

    A region is open before it is mapped and may be closed after. Reading a process's descriptors before
    its maps therefore misses it at no moment of its life.
    """
    wanted = str(SHARED_MEMORY / prefix)
    held: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end meanwhile. Another user's cannot be read, and cannot hold what only we may open.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    held.add(str(descriptor.readlink()))
            for line in (process / "maps").read_text(errors="replace").splitlines():
                if wanted in line:
                    held.add(line.split(maxsplit=5)[5])  # address perms offset device inode path
    return held
