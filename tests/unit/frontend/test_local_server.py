from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from frontend.local_server import LocalServer
from gpt_oss_triton.wire import Load
from tests.unit.frontend.fake_triton import LOAD


@dataclass
class Pair:
    """A process that looks like a tritonserver, and its child that looks like a stub."""

    server: subprocess.Popen[str]
    load: Load


@pytest.fixture(params=[("tritonserver", "triton_python_backend_stub")])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    server_name, stub_name = request.param
    shutil.copy("/bin/bash", tmp_path / server_name)
    shutil.copy("/bin/sleep", tmp_path / stub_name)
    script = f"{tmp_path / stub_name} 60 & echo $!; wait"
    with subprocess.Popen(
        [tmp_path / server_name, "-c", script], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        stub = int(server.stdout.readline())
        while not _program(stub).endswith(stub_name.encode()):  # forked, not yet exec'd
            assert server.poll() is None
        yield Pair(server, msgspec.structs.replace(LOAD, pid=stub, started=time.time()))
        server.kill()
        subprocess.run(["kill", str(stub)], check=False)


def _program(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]


def test_finds_the_server_and_ends_it(pair: Pair) -> None:
    server = LocalServer.of(pair.load)
    assert server is not None
    assert server.server.pid == pair.server.pid
    assert server.stub.pid == pair.load.pid
    assert server.end()
    assert pair.server.wait(10) == -9
    assert not server.end()


def test_a_report_from_before_the_process_is_not_its_own(pair: Pair) -> None:
    assert LocalServer.of(msgspec.structs.replace(pair.load, started=time.time() - 3600)) is None


@pytest.mark.parametrize(
    "pair", [("bash", "triton_python_backend_stub"), ("tritonserver", "worker")], indirect=True
)
def test_other_programs_are_left_alone(pair: Pair) -> None:
    assert LocalServer.of(pair.load) is None


def test_a_dead_stub_is_known_as_dead_before_its_parent_has_noticed(pair: Pair) -> None:
    server = LocalServer.of(pair.load)
    assert server is not None
    assert server.stub_lives
    os.kill(pair.load.pid, signal.SIGSTOP)
    assert server.stub_lives
    os.kill(pair.server.pid, signal.SIGSTOP)  # so that it stays a zombie
    os.kill(pair.load.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.stub_lives:
        assert time.monotonic() < deadline
    os.kill(pair.server.pid, signal.SIGCONT)


def test_a_pid_that_is_gone() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert LocalServer.of(msgspec.structs.replace(LOAD, pid=process.pid, started=time.time())) is None
