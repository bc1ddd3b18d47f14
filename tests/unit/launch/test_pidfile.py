"""Against real processes: `--force-port` must end ours and nobody else's."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import pidfile
from gpt_oss_triton.launch.pidfile import Process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def identify(process: subprocess.Popen[bytes]) -> Process:
    found = Process.find(process.pid)
    assert found is not None
    return found


def test_ends_the_process_that_it_names(sleeper: subprocess.Popen[bytes]) -> None:
    assert identify(sleeper).end()
    assert sleeper.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_leaves_alone_a_process_that_only_has_its_number(
    change: dict[str, object], sleeper: subprocess.Popen[bytes]
) -> None:
    assert not dataclasses.replace(identify(sleeper), **change).end()  # type: ignore[arg-type]
    assert sleeper.poll() is None


def test_a_process_that_is_gone_is_not_found(sleeper: subprocess.Popen[bytes]) -> None:
    known = identify(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert Process.find(sleeper.pid) is None
    assert not known.end()


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    monkeypatch.setattr(pidfile, "_ESCALATION", ((signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0)))
    assert identify(deaf).end()
    assert deaf.wait() == -signal.SIGKILL
    deaf.stdout.close()


def test_a_name_with_brackets_and_spaces_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert identify(process).end()
    finally:
        process.kill()
        process.wait()


def test_the_file_names_the_holder_while_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "run" / "serve-1.json"
    with pidfile.held(path):
        assert pidfile.read(path) == Process.find(os.getpid())
    assert not path.exists()


def test_a_successors_file_stays(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    path = tmp_path / "serve-1.json"
    successor = identify(sleeper)
    with pidfile.held(path):
        path.write_text(
            f'{{"pid": {successor.pid}, "started": {successor.started}, "boot": "{successor.boot}"}}'
        )
    assert pidfile.read(path) == successor


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 1}', "not json"])
def test_a_damaged_file_names_nobody(content: str, tmp_path: Path) -> None:
    path = tmp_path / "serve-1.json"
    path.write_text(content)
    assert pidfile.read(path) is None


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match="Set XDG_CACHE_HOME"),
        pidfile.held(tmp_path / "file" / "serve-1.json"),
    ):
        pass
