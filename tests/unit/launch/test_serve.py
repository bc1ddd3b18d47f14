"""What `scripts/serve` does before it starts anything; the rest is in tests/e2e/test_serve.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import serve

SPEAK = """
import os, sys
from gpt_oss_triton.launch import serve
for _ in range(3):
    serve._print_line("a message")
    serve._print_line("the answer", sys.stdout)
os.write(int(sys.argv[1]), b"alive")
"""


def test_output_that_nobody_reads_ends_nothing() -> None:
    result, told = os.pipe()
    closed, broken = os.pipe()
    os.close(closed)
    try:
        done = subprocess.run(
            [sys.executable, "-c", SPEAK, str(told)],
            stdout=broken,
            stderr=broken,
            pass_fds=[told],
            check=False,
            timeout=60,
        )
    finally:
        os.close(told)
        os.close(broken)
    with os.fdopen(result) as report:
        assert report.read() == "alive"
    assert done.returncode == 0


def test_a_closed_stream_ends_nothing(tmp_path: Path) -> None:
    stream = (tmp_path / "closed").open("w")
    stream.close()
    serve._print_line("a message", stream)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Set XDG_CACHE_HOME"):
        serve._fresh_log(8000)


def test_the_log_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    serve._fresh_log(8000).write_text("before")
    log_file = serve._fresh_log(8000)
    assert log_file.read_text() == ""
    assert log_file.with_suffix(".old.log").read_text() == "before"
