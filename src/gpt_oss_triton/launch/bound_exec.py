"""A program that becomes another one, and ends when the process that started it ends.

`python bound_exec.py PARENT_PID PROGRAM ARGUMENT...`, with the standard library alone. It stands in for
`preexec_fn`, which makes `subprocess` fork this interpreter with all that its libraries do after a fork: a
gRPC client in the launching process aborts the child (seen, "epoll_wait error: Bad file descriptor").
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def bound(program: str | Path, *arguments: str) -> list[str]:
    """The command of a child that ends with this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(program), *arguments]


def main(parent: int, program: str, *arguments: str) -> None:
    """Does not return. Linux ends the program with the *thread* that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be asked for
        sys.exit(1)
    try:
        os.execv(program, [program, *arguments])  # noqa: S606 - no shell
    except OSError as error:
        sys.exit(f"error: cannot start {program}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
