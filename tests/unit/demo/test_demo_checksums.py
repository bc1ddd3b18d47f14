"""What a directory's list of hashes notices."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_oss_triton.demo import checksums


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"")
    checksums.write(tmp_path)
    return tmp_path


def test_what_was_written_is_intact(directory: Path) -> None:
    assert checksums.intact(directory)


def test_anybody_can_check_it(directory: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, check=True, timeout=30)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "a").write_bytes(b"onf"),
        lambda path: (path / "a").write_bytes(b""),
        lambda path: (path / "b").unlink(),
        lambda path: (path / "c").write_bytes(b"more"),
        lambda path: (path / "c").mkdir(),
        lambda path: (path / "SHA256SUMS").unlink(),
        lambda path: (path / "SHA256SUMS").write_bytes(b""),
        lambda path: (path / "SHA256SUMS").write_bytes(b"\xff"),
    ],
    ids=["changed", "emptied", "gone", "more", "a directory", "no list", "an empty list", "a damaged list"],
)
def test_damage_is_seen(directory: Path, damage: Callable[[Path], object]) -> None:
    damage(directory)
    assert not checksums.intact(directory)


def test_nothing_is_not_intact(tmp_path: Path) -> None:
    assert not checksums.intact(tmp_path / "none")
