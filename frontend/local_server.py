"""The tritonserver process behind an engine that reports from this machine, and how to end it.

A dead stub leaves its server damaged (measured on Triton 2.51): requests that were in flight are never
released, and with them the model's old instance and its shared memory; a mutex that the stub held when it
was killed blocks the server or aborts it. So where a supervisor starts the server again, ending it is the
recovery that leaves nothing behind.
"""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gpt_oss_triton.wire import Load

log = logging.getLogger(__name__)

_STUB = "triton_python_backend_stub"
_SERVER = "tritonserver"
_CLOCK_SLACK_S = 2.0  # the kernel's boot time is in whole seconds


@dataclass(frozen=True, slots=True)
class _Process:
    """A process by its pid and the time of its start: a pid alone may come to name another."""

    pid: int
    started_ticks: int

    def lives(self) -> bool:
        try:
            state, _, ticks = _status(self.pid)
        except (OSError, ValueError):
            return False
        return ticks == self.started_ticks and state != "Z"


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A tritonserver on this machine and the stub of one engine in it."""

    server: _Process
    stub: _Process

    @classmethod
    def of(cls, load: Load) -> Self | None:
        """The processes behind a report, or None when it does not come from a stub of ours here."""
        try:
            _, parent, ticks = _status(load.pid)
            if not _is_ours(load.pid, _STUB) or _unix_time(ticks) > load.started + _CLOCK_SLACK_S:
                return None
            if not _is_ours(parent, _SERVER):
                return None
            return cls(_Process(parent, _status(parent)[2]), _Process(load.pid, ticks))
        except (OSError, ValueError):  # gone, or not ours to see
            return None

    def end(self) -> bool:
        """Kill the server; False when it has gone already."""
        try:
            if not self.server.lives():
                return False
            os.kill(self.server.pid, signal.SIGKILL)
        except OSError:
            return False
        log.warning("ended the tritonserver %d, for its supervisor to start again", self.server.pid)
        return True


def _is_ours(pid: int, program: str) -> bool:
    process = Path(f"/proc/{pid}")
    name = process.joinpath("cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return process.stat().st_uid == os.getuid() and Path(name).name == program


def _status(pid: int) -> tuple[str, int, int]:
    """State, parent's pid, and start in clock ticks since boot."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])  # fields 3, 4 and 22 of proc(5)


def _unix_time(ticks: int) -> float:
    stat = Path("/proc/stat").read_text().splitlines()
    boot = next(int(line.split()[1]) for line in stat if line.startswith("btime "))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
