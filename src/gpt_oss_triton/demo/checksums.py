"""Whether a directory's files are still what was written: a list of hashes among them, as `sha256sum` makes and checks it."""

from __future__ import annotations

import hashlib
from pathlib import Path

_LIST = "SHA256SUMS"


def write(directory: Path) -> None:
    """Note the hashes of the files that are there. The list comes last, so that where it is, everything is."""
    partial = directory / f".{_LIST}"
    partial.write_text(_sums(directory), encoding="ascii")
    partial.replace(directory / _LIST)


def intact(directory: Path) -> bool:
    """Whether the files are those of the list, no more and no fewer. Reads all of them: 0.15 s for the demo model."""
    try:
        noted = (directory / _LIST).read_text(encoding="ascii")
        return noted == _sums(directory)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError):
        return False


def _sums(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir() if not path.name.endswith(_LIST))
    return "".join(f"{_sum(directory / name)}  {name}\n" for name in names)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
