"""Reads the log that a tritonserver writes: how far it got, and why it failed.

The file is appended to by one life of the server after another; only the current one counts.
"""

from __future__ import annotations

import re
from pathlib import Path

_PROGRESS = re.compile(r"(?:loading: (\S+):\d+|successfully loaded '(\S+)')")
# "failed to load 'm' version 1: Internal: TritonModelException: why\n\nAt:\n  file.py(1): initialize\n": Triton
# writes the message's line breaks as backslash and n, and the Python backend adds where it was raised.
_CAUSE = re.compile(
    r"failed to load '(?P<model>[^']+)' version \d+: [A-Za-z ]+: (?:TritonModelException: )?(?P<why>.+?)(?:\\n|\"?$)",
    re.MULTILINE,
)
_ERRORS = (
    re.compile(r"^error: (?P<why>.+)$", re.MULTILINE),  # tritonserver's own last words
    # CudaDriverHelper complains on every machine without a GPU.
    re.compile(r"^\S+Z E \d+ \S+ \"(?P<why>(?!CudaDriverHelper).+)\"$", re.MULTILINE),
)
_READ_BYTES = 1024 * 1024  # of the end of the file; a failing start says why near its end


class ServerLog:
    """One log file, from the position where the current life began."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin = 0
        self._reported = 0

    def begin(self) -> None:
        """A new life of the server starts to write here."""
        self._begin = self._path.stat().st_size if self._path.exists() else 0
        self._reported = 0

    def tail(self, lines: int) -> list[str]:
        return self._text().splitlines()[-lines:]

    def progress(self) -> list[str]:
        """Model steps that were not reported before: "loading X", "X is loaded"."""
        steps = [
            f"loading {match[1]}" if match[1] else f"{match[2]} is loaded"
            for match in _PROGRESS.finditer(self._text())
        ]
        new, self._reported = steps[self._reported :], len(steps)
        return new

    def cause(self) -> str:
        """One line that says why the server failed, as far as its log tells."""
        text = self._text()
        if cause := _CAUSE.search(text):
            return f"{cause['model']}: {cause['why'].strip()}"
        for pattern in _ERRORS:
            if errors := pattern.findall(text):
                return str(errors[-1])
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "it wrote no log"

    def _text(self) -> str:
        if not self._path.exists():
            return ""
        with self._path.open("rb") as log:
            end = log.seek(0, 2)
            log.seek(max(self._begin, end - _READ_BYTES))
            return log.read().decode(errors="replace")
