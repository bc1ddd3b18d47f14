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
# Triton's Python backend starts its stub as `bash -c "exec STUB MODEL …"`, and quotes nothing.
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/gpt-oss-triton`, in the home directory by default.

    Raises:
        ConfigurationError: there is neither.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "gpt-oss-triton"
    except RuntimeError:  # as in a container that runs under a number without a name
        raise ConfigurationError(
            "this user has no home directory to keep logs in: set HOME or XDG_CACHE_HOME to a writable directory."
        ) from None


def temporary_root() -> str:
    """Where temporary directories go whose paths a shell will read."""
    usual = tempfile.gettempdir()
    return usual if _PLAIN.fullmatch(usual) else "/tmp"  # noqa: S108 - only as the parent of mkdtemp's


@contextlib.contextmanager
def model_repository(path: Path = MODEL_REPOSITORY) -> Iterator[Path]:
    """The model repository under a name that a shell takes as it is, behind a link if need be.

    Raises:
        ConfigurationError: the project is installed without it.
    """
    if not path.is_dir():
        raise ConfigurationError(
            f"there is no model repository at {path}: start from a clone of the project "
            "(scripts/serve), or start Triton yourself and name it with --triton-url."
        )
    if _PLAIN.fullmatch(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="gpt-oss-triton-models-", dir=temporary_root()) as directory:
        link = Path(directory) / "models"
        link.symlink_to(path)
        yield link
