"""How a child process ended, in words."""

from __future__ import annotations

import signal


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
