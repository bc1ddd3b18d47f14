"""The tritonserver process behind an engine that reports from this machine, and how to end it.

A dead stub leaves its server damaged (measured on Triton 2.51): requests that were in flight are never
released, and with them the model's old instance and its shared memory; a mutex that the stub held when it
was killed blocks the server or aborts it. So where a supervisor starts the server again, ending it is the
recovery that leaves nothing behind.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from gpt_oss_triton.wire import Load

log = logging.getLogger(__name__)

_STUB = "triton_python_backend_stub"
_SERVER = "tritonserver"
_CLOCK_SLACK_S = 2.0  # the kernel's boot time is in whole seconds


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A tritonserver on this machine and the stub of one engine in it. psutil knows a process by its start as well: a pid
    alone may come to name another."""

    server: psutil.Process
    stub: psutil.Process

    @classmethod
    def of(cls, load: Load) -> Self | None:
        """The processes behind a report, or None when it does not come from a stub of ours here."""
        try:
            stub = psutil.Process(load.pid)
            if not _is_ours(stub, _STUB) or stub.create_time() > load.started + _CLOCK_SLACK_S:
                return None
            server = stub.parent()
            return cls(server, stub) if server is not None and _is_ours(server, _SERVER) else None
        except psutil.Error:  # gone, or not ours to see
            return None

    @property
    def stub_lives(self) -> bool:
        return _lives(self.stub)

    def end(self) -> bool:
        """Kill the server; False when it has gone already."""
        try:
            if not _lives(self.server):
                return False
            self.server.kill()
        except psutil.Error:
            return False
        log.warning("ended the tritonserver %d, for its supervisor to start again", self.server.pid)
        return True


def _is_ours(process: psutil.Process, program: str) -> bool:
    command = process.cmdline()
    return bool(command) and Path(command[0]).name == program and process.uids().real == os.getuid()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
