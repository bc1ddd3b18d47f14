"""The processes of this server on this machine: the shim, a tritonserver of ours, and its models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from frontend.local_server import LocalServer
from gpt_oss_triton.wire import Load

_MAX_SERVERS = 16


def memory(loads: Iterable[Load]) -> list[dict[str, Any]]:
    """Resident memory of each process. Reads all of /proc, so call it in a thread."""
    found = [_resident("shim", psutil.Process())]
    for server in _servers(loads):
        found.append(_resident("tritonserver", server))
        found += [_resident(_model(child), child) for child in _children(server)]
    return [process for process in found if process is not None]


def logging_servers(loads: Iterable[Load]) -> list[int]:
    """Process ids of the tritonservers here that log into a file."""
    logs = {server.pid: _log_of(server.pid) for server in _servers(loads)}
    return [pid for pid, log in logs.items() if os.access(log, os.R_OK) and log.is_file()]


def log_tail(server: int, max_bytes: int) -> str:
    """The last bytes that a tritonserver has logged. Raises OSError when that cannot be read any more."""
    with _log_of(server).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - max_bytes))
        return log.read(max_bytes).decode(errors="replace")


def _log_of(server: int) -> Path:
    """Its standard output, whatever that is."""
    return Path(f"/proc/{server}/fd/1")


def _servers(loads: Iterable[Load]) -> list[psutil.Process]:
    found = {found.server.pid: found.server for load in loads if (found := LocalServer.of(load)) is not None}
    return [found[pid] for pid in sorted(found)[:_MAX_SERVERS]]


def _children(server: psutil.Process) -> list[psutil.Process]:
    try:
        return server.children()
    except psutil.NoSuchProcess:
        return []


def _model(stub: psutil.Process) -> str:
    """Name of the model that a stub runs: its first argument is `…/NAME/VERSION/model.py`."""
    try:
        return Path(stub.cmdline()[1]).parts[-3]
    except (psutil.Error, IndexError):
        return "tritonserver's child"


def _resident(name: str, process: psutil.Process) -> dict[str, Any] | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:  # Triton never reaps a stub that was killed
            return None
        return {"name": name, "pid": process.pid, "rss_bytes": process.memory_info().rss}
    except psutil.Error:
        return None
