"""What every process that the launcher starts has in common."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: a child may only call it


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it ends, however it does."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def describe_exit(returncode: int | None) -> str:
    """`subprocess` return code in words."""
    if returncode is None:
        return "is running"
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
