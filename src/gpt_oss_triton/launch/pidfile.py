"""Which launcher holds which port, so that `--force-port` ends our own earlier one and nothing else.

A process id alone proves nothing: it may have been given to another program since. With the process's start
time and the boot it was started in, it names one process for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gpt_oss_triton.errors import ConfigurationError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# SIGTERM drains; the second one ends a drain; SIGKILL is for what heeds neither.
_ESCALATION = ((signal.SIGTERM, 5.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this machine, past or present. `started` is in clock ticks since boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """The process that has this id now, or None."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the program's name, in brackets, may hold anything
        return None if fields[0] == "Z" else cls(pid, int(fields[19]), _BOOT_ID.read_text().strip())

    def end(self) -> bool:
        """End it, gently first; False when it was gone already.

        The descriptor is taken before the identity is checked, so no signal can reach a successor.

        Raises:
            PermissionError: it is another user's.
            TimeoutError: not even SIGKILL ended it.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if Process.find(self.pid) != self:
                return False
            for number, patience_s in _ESCALATION:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
                if select.select([descriptor], [], [], patience_s)[0]:
                    return True
            raise TimeoutError(f"process {self.pid} does not end")
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """While inside, `path` names this process.

    Raises:
        ConfigurationError: it cannot be written.
    """
    me = Process.find(os.getpid())
    if me is None:
        raise RuntimeError("this process is not in /proc")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{me.pid}")
        unfinished.write_text(json.dumps(asdict(me)))
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}. Set XDG_CACHE_HOME to a writable directory."
        ) from None
    try:
        yield
    finally:
        if read(path) == me:  # a successor that ended us may have written its own
            path.unlink(missing_ok=True)


def read(path: Path) -> Process | None:
    """The process that `path` names, or None when there is no such file or it holds something else."""
    try:
        return Process(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
