"""Ends a process group when the launcher is gone, however it went.

The kernel's parent-death signal reaches our children and not theirs: after `kill -9` of the launcher, a
model's process can outlive its tritonserver, blocked in a call to it for ever, with the model in memory.
"""

from __future__ import annotations

import subprocess

# Its input ends when the last holder of the other end does, and that is the launcher alone.
_SCRIPT = 'read -r _; kill -KILL "-$0"'


class Guardian:
    """Watches over one process group at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Guard the process group of this leader, and no other one any more."""
        self.dismiss()
        self._process = subprocess.Popen(  # noqa: S603 - a constant script and a number
            ["/bin/sh", "-c", _SCRIPT, str(group)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the group may be gone already
            start_new_session=True,  # out of reach of what ends the launcher
        )

    def dismiss(self) -> None:
        """Guard nothing. Must come before the group is ended on purpose: its number may be given away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None
