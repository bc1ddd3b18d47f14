from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpt_oss_triton.launch import shared_memory

# Holds a region mapped, its descriptor closed, under the process name it is given.
_HOLD = """
import mmap, sys
open("/proc/self/comm", "w").write(sys.argv[2])
with open(sys.argv[1], "r+b") as file:
    region = mmap.mmap(file.fileno(), 0)
print("holding", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(region: Path, name: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(region), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def prefix() -> Iterator[str]:
    prefix = f"gpt_oss_test_{uuid.uuid4().hex}_"
    yield prefix
    for path in shared_memory.SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink()


def make(name: str) -> Path:
    path = shared_memory.SHARED_MEMORY / name
    path.write_bytes(b"\0" * 4096)
    return path


def test_regions_are_ours_by_their_prefix(prefix: str) -> None:
    make(f"{prefix}b")
    make(f"{prefix}a")
    assert shared_memory.regions(prefix) == [f"{prefix}a", f"{prefix}b"]
    with pytest.raises(ValueError, match="must not be empty"):
        shared_memory.regions("")


def test_what_a_stub_maps_stays_until_the_stub_is_dead(prefix: str) -> None:
    mapped, left = make(f"{prefix}mapped"), make(f"{prefix}left")
    with holder(mapped, "triton_python_b"):
        assert shared_memory.sweep(prefix) == [left.name]
        assert mapped.exists()
    assert shared_memory.sweep(prefix) == [mapped.name]
    assert shared_memory.sweep(prefix) == []


def test_an_open_descriptor_holds_a_region(prefix: str) -> None:
    with make(f"{prefix}open").open("rb"):
        assert shared_memory.sweep(prefix) == []


def test_a_server_alone_holds_a_region_only_while_its_stub_may_come(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = make(f"{prefix}region")
    with holder(region, "tritonserver"):
        monkeypatch.setattr(shared_memory, "_STUB_START_S", 3600)
        assert shared_memory.sweep(prefix) == []
        monkeypatch.setattr(shared_memory, "_STUB_START_S", 0)
        assert shared_memory.sweep(prefix) == [region.name]
