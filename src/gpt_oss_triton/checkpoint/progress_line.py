"""Commands that write a checkpoint: one line that shows how far it is, and a clean end whatever happens."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpt_oss_triton.checkpoint.build import Progress
from gpt_oss_triton.errors import ConfigurationError

_QUIET_S = 2.0  # progress is shown for what takes longer


def write_with_progress(program: str, out: Path, write: Callable[[Progress], None]) -> int:
    """Write `out`. Returns the command's exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that partial files go
    progress = ProgressLine()
    try:
        write(progress.show)
    except (ConfigurationError, OSError, ValueError) as error:
        progress.end(f"{program}: {error}")
        return 1
    except KeyboardInterrupt:
        progress.end(f"{program}: interrupted; nothing was written")
        return 128 + signal.SIGINT
    progress.end(f"wrote {out}")
    return 0


class ProgressLine:
    """One line on stderr: rewritten in place on a terminal, a new one every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started: float | None = None  # when the first chunk was written
        self._shown = 0.0

    def show(self, written: int, total: int) -> None:
        now = time.monotonic()
        self._started = self._started or now
        took = now - self._started
        if took < _QUIET_S or now - self._shown < (0.2 if self._terminal else 10):
            return
        self._shown = now
        line = f"{written / 1e9:.1f} of {total / 1e9:.1f} GB, {took * (total / written - 1):.0f} s left"
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def end(self, message: str) -> None:
        start = "\r\033[K" if self._terminal and self._shown else ""
        sys.stderr.write(f"{start}{message}\n")
