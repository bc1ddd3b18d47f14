"""The embedded tritonserver under supervision, and the shared memory that its dead stubs leave behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

from gpt_oss_triton.launch import shared_memory
from gpt_oss_triton.launch.child import describe_exit
from gpt_oss_triton.launch.guardian import Guardian
from gpt_oss_triton.launch.pidfile import Process
from gpt_oss_triton.launch.triton_server import TritonServer

_SWEEP_EVERY_S = 2.0
_STUCK_S = 5.0
_TAIL_LINES = 20
_LAUNCHER = re.compile(r"gpt_oss_(\d+)_")


class TritonService:
    name = "tritonserver"

    def __init__(self, server: TritonServer) -> None:
        self._server = server
        self._sweeper = _Sweeper(server.shm_prefix)
        self._guardian = Guardian()
        self._dead_child_since: float | None = None
        self._stopping = False

    def start(self) -> None:
        self._guardian.dismiss()
        self._dead_child_since = None
        self._server.terminate()  # the stubs and the memory of a life before, if there was one
        self._server.start()
        if (pid := self._server.pid) is not None:
            self._guardian.watch(pid)

    def alive(self) -> bool:
        alive = self._server.poll()
        if not alive:
            self._guardian.dismiss()  # the group was ended with it
        return alive

    def ready(self) -> bool:
        return self._server.is_ready()

    def stuck(self) -> str | None:
        """Triton waits for ever for a stub that ended before its first word (a library is missing, say)."""
        pid = self._server.pid
        if pid is None or not _has_dead_child(pid):
            self._dead_child_since = None
            return None
        self._dead_child_since = self._dead_child_since or time.monotonic()
        if time.monotonic() - self._dead_child_since < _STUCK_S:  # of the others Triton takes notice itself
            return None
        return "waits for a model's process that has ended"

    def progress(self) -> list[str]:
        return self._server.log.progress()

    def awaits(self) -> str:
        return f"its models are not loaded yet (log in {self._server.log_file})"

    def ended(self) -> str:
        code = self._server.returncode
        how = describe_exit(code)
        # One that a signal ended had no time to log why.
        return how if code is not None and code < 0 else f"{how}: {self._server.log.cause()}"

    def log_tail(self) -> list[str]:
        return self._server.log.tail(_TAIL_LINES)

    def log_place(self) -> str:
        return f"The whole log: {self._server.log_file}"

    def tick(self) -> None:
        self._sweeper.tick()

    def abort(self) -> None:
        self._guardian.dismiss()
        self._kill()
        self._server.terminate()

    def stop(self, fast: bool) -> None:
        self._stopping = True
        self._guardian.dismiss()
        if fast:
            self._kill()
        self._server.close()

    def hurry(self) -> None:
        if self._stopping:  # before that the shim still needs it, to cancel what runs
            self._kill()

    def _kill(self) -> None:
        if (pid := self._server.pid) is not None and self._server.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


class _Sweeper:
    """Sweeps when our regions have changed, and once more after that: a dead stub's region is let go by
    tritonserver only when the model is unloaded, which may come after the change that was seen."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._seen: list[str] = []
        self._settled = True
        self._next = 0.0

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _SWEEP_EVERY_S
        names = shared_memory.regions(self._prefix)
        changed = names != self._seen
        if changed or not self._settled:
            shared_memory.sweep(self._prefix)
            self._seen = shared_memory.regions(self._prefix)
        self._settled = not changed


def _has_dead_child(pid: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has gone while we looked
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == pid:
                return True
    return False


def sweep_orphans() -> list[str]:
    """Remove what launchers that were killed have left; returns the names."""
    uid, removed = os.getuid(), []
    for name in shared_memory.regions("gpt_oss_"):
        owner = _LAUNCHER.match(name)
        with contextlib.suppress(FileNotFoundError):  # a prefix names several: swept with the first
            mine = (shared_memory.SHARED_MEMORY / name).stat().st_uid == uid
            if owner and mine and Process.find(int(owner[1])) is None:
                removed += shared_memory.sweep(owner[0])
    return removed
