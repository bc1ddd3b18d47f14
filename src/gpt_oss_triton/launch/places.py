"""Where the launcher finds and keeps things."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gpt_oss_triton
from gpt_oss_triton.errors import ConfigurationError

# The model repository is part of the source tree, which is how the project is installed (`pip install -e`).
ROOT = Path(gpt_oss_triton.__file__).resolve().parents[2]
MODEL_REPOSITORY = ROOT / "model_repository"


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/gpt-oss-triton`, in the home directory by default."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gpt-oss-triton"


@contextlib.contextmanager
def model_repository(path: Path = MODEL_REPOSITORY) -> Iterator[Path]:
    """The model repository under a name without spaces: Triton's Python backend splits its stub's command
    line at them, and waits half a minute for a stub that has failed at once.

    Raises:
        ConfigurationError: the project is installed without it.
    """
    if not path.is_dir():
        raise ConfigurationError(
            f"there is no model repository at {path}: start from a clone of the project "
            "(scripts/serve), or start Triton yourself and name it with --triton-url."
        )
    if not re.search(r"\s", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gpt-oss-triton-models-") as directory:
        link = Path(directory) / "models"
        link.symlink_to(path)
        yield link
