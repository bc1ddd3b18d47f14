from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from frontend.stub_process import kill_stub
from tests.unit.frontend.fake_triton import LOAD


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a stub."""
    program = tmp_path / "triton_python_backend_stub"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():  # Popen returns in the middle of exec
            assert process.poll() is None
        yield process
        process.kill()


def test_ends_the_process_that_reported(stub: subprocess.Popen[bytes]) -> None:
    assert kill_stub(msgspec.structs.replace(LOAD, pid=stub.pid, started=time.time()))
    assert stub.wait(10) == -9


def test_leaves_a_process_that_took_over_the_pid(stub: subprocess.Popen[bytes]) -> None:
    assert not kill_stub(msgspec.structs.replace(LOAD, pid=stub.pid, started=time.time() - 3600))
    assert stub.poll() is None


def test_leaves_other_programs() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        assert not kill_stub(msgspec.structs.replace(LOAD, pid=process.pid, started=time.time()))
        assert process.poll() is None
        process.kill()


def test_a_pid_that_is_gone() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert not kill_stub(msgspec.structs.replace(LOAD, pid=process.pid, started=time.time()))
