"""The processes of this server on this machine: their memory and their log."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from frontend import processes
from gpt_oss_triton.wire import Load
from tests.unit.frontend.fake_triton import LOAD


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Load]]:
    """A process that looks like a tritonserver whose log is a file, and the report of what looks like its stub."""
    for program in ("tritonserver", "triton_python_backend_stub"):
        shutil.copy("/bin/bash", tmp_path / program)
    model = tmp_path / "some_engine" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text("echo started\nread")  # until its input ends
    log = tmp_path / "tritonserver.log"
    command = [str(tmp_path / "tritonserver"), "-c", f"{tmp_path}/triton_python_backend_stub {model}; true"]
    with log.open("wb") as output, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output) as process:
        while "started" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield process.pid, msgspec.structs.replace(LOAD, pid=int(children[0]), started=time.time())


def test_memory_of_all(server: tuple[int, Load]) -> None:
    pid, load = server
    found = processes.memory([load, load])
    assert [(process["name"], process["pid"]) for process in found] == [
        ("shim", os.getpid()),
        ("tritonserver", pid),
        ("some_engine", load.pid),
    ]
    assert all(process["rss_bytes"] > 0 for process in found)


def test_the_end_of_its_log(server: tuple[int, Load], tmp_path: Path) -> None:
    pid, load = server
    with (tmp_path / "tritonserver.log").open("a") as log:
        log.write("x" * 1000 + "the end")
    assert processes.logging_servers([load, load]) == [pid]
    assert processes.log_tail(pid, 7) == "the end"
    assert processes.log_tail(pid, 10_000).startswith("started")


def test_engines_elsewhere_have_neither() -> None:
    elsewhere = msgspec.structs.replace(LOAD, pid=os.getpid(), started=time.time())  # our own pid, over there
    assert processes.logging_servers([elsewhere]) == []
    assert [process["name"] for process in processes.memory([elsewhere])] == ["shim"]


def test_a_dead_child_that_nobody_reaps_is_left_out() -> None:
    with subprocess.Popen(["true"]) as child:
        dead = psutil.Process(child.pid)
        while dead.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert processes._resident("some_engine", dead) is None
