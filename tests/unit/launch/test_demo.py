"""The demo model in the cache: written once and whole, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_oss_triton.demo import checksums, committed
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import demo
from gpt_oss_triton.launch.signals import Stopped

EXPANDING = "expanding the demo model (once)"
LAUNCH = """
import sys
from pathlib import Path
from gpt_oss_triton.launch import demo
print(demo.demo_checkpoint(Path(sys.argv[1]), print, lambda: False))
"""
# As on a full disk, a write fails in the middle.
FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))" + LAUNCH


def never() -> bool:
    return False


def launched(program: str, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def in_cache(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


@pytest.mark.slow
def test_it_is_expanded_once_and_again_when_damaged(tmp_path: Path) -> None:
    half = tmp_path / f".{demo.place(tmp_path).name}.partial-killed"
    half.mkdir()
    told = [process.communicate(timeout=120)[0] for process in [launched(LAUNCH, tmp_path) for _ in range(2)]]
    directory = demo.place(tmp_path)
    assert [text.splitlines()[-1] for text in told] == [str(directory)] * 2
    assert sum(EXPANDING in text for text in told) == 1, "two first starts at once"
    assert in_cache(tmp_path) == {"demo.lock", directory.name}

    said: list[str] = []
    assert demo.demo_checkpoint(tmp_path, said.append, never) == directory
    assert said == []
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    assert demo.demo_checkpoint(tmp_path, said.append, never) == directory
    assert "is damaged: writing it anew" in said[0]
    assert said[1] == EXPANDING
    assert checksums.intact(directory)


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    process = launched(FULL, tmp_path)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "demo model: [Errno 27] File too large" in told
    assert "the demo model could not be expanded" in told
    assert in_cache(tmp_path) == {"demo.lock"}


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write the demo model"):
        demo.demo_checkpoint(tmp_path / "cache", print, never)


def test_a_stop_ends_the_expansion_and_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Stopped):
        demo.demo_checkpoint(tmp_path, said.append, lambda: True)
    assert said == [EXPANDING]
    assert in_cache(tmp_path) == {"demo.lock"}


def test_a_stop_ends_the_wait_for_another_start(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stopped):
            demo.demo_checkpoint(tmp_path, lambda _: None, lambda: True)


def test_another_model_has_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = demo.place(tmp_path)
    monkeypatch.setattr(committed, "manifest", lambda: {committed.HASH: "0" * 64})
    assert demo.place(tmp_path) != first


def test_the_launcher_needs_no_torch() -> None:
    code = "import sys, gpt_oss_triton.launch.serve; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
