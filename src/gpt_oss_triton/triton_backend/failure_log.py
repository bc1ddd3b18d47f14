"""How an unexpected exception is logged: what it was and where, never what it says.

A message may quote the value that was in hand, and here that is a user's prompt or answer.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import triton_python_backend_utils as pb_utils


def log_failure(what: str, error: BaseException) -> None:
    """One line in Triton's log."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    pb_utils.Logger.log_error(f"{what}: {type(error).__name__}{where}")
