"""scripts/environment.py on a small project of its own: real environments, real pip, no network.

The project's build backend is part of the project, so pip has nothing to fetch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os, pathlib, time, zipfile
METADATA = "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nProvides-Extra: dev\\nProvides-Extra: one\\nProvides-Extra: two\\n"

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    pathlib.Path("builds").open("a").write("x")
    if pathlib.Path("fail").exists():
        raise SystemExit("this build fails on purpose")
    while pathlib.Path("hang").exists():
        time.sleep(0.05)
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("small.pth", str(pathlib.Path.cwd()))
        wheel.writestr("small-1.dist-info/METADATA", METADATA)
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: b\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "small.pth,,\\nsmall-1.dist-info/METADATA,,\\nsmall-1.dist-info/WHEEL,,\\nsmall-1.dist-info/RECORD,,\\n")
    return name
"""
SCRIPT = """\
import sys
import environment
environment.run(sys.argv[1].split(","), ["-c", "import importlib.metadata as m; print(m.version('small'))"])
"""


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("scripts", "constraints"):
            (root / directory).mkdir()
        shutil.copy(ROOT / "scripts" / "environment.py", root / "scripts")
        (root / "constraints" / "cpu.txt").write_text("")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND)
        (root / "scripts" / "start").write_text(SCRIPT)

    def start(self, extras: str = "one", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "scripts" / "start"), extras],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            cwd="/",
            # A shell that runs the tests in the background has them ignore SIGINT, and so would this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, extras: str = "one", **environment: str) -> tuple[int, str, str]:
        process = self.start(extras, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @property
    def builds(self) -> int:
        counter = self.root / "builds"
        return len(counter.read_text()) if counter.exists() else 0

    def wait_for_build(self, number: int) -> None:
        deadline = time.monotonic() + 60
        while self.builds < number:
            assert time.monotonic() < deadline, "the installation did not begin"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project with an environment, for the tests that leave it whole."""
    project = Project(tmp_path_factory.mktemp("project"))
    status, out, err = project.run("one")
    assert (status, out) == (0, "1\n"), err
    assert "first start: making .venv" in err
    assert ".venv is ready" in err
    return project


def test_a_second_run_installs_nothing_and_says_nothing(installed: Project) -> None:
    before = installed.builds
    assert installed.run("one") == (0, "1\n", "")
    assert installed.builds == before


def test_it_runs_through_a_link(installed: Project, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(installed.root / "scripts" / "start")
    done = subprocess.run([sys.executable, str(link), "one"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_changed_requirement_installs_again(installed: Project) -> None:
    before = installed.builds
    (installed.root / "constraints" / "cpu.txt").write_text("unrelated==1\n")
    status, _, err = installed.run("one")
    assert status == 0
    assert "requirements have changed" in err
    assert installed.builds == before + 1


def test_another_extra_is_added_to_those_before(installed: Project) -> None:
    assert installed.run("two")[0] == 0
    before = installed.builds
    assert installed.run("one,two") == (0, "1\n", "")
    assert installed.run("one") == (0, "1\n", "")
    assert installed.builds == before
    assert installed.run("dev")[0] == 0
    assert installed.run("three") == (0, "1\n", "")  # dev has everything
    assert installed.builds == before + 1


def test_two_first_starts_install_once(installed: Project) -> None:
    (installed.root / "constraints" / "cpu.txt").write_text("unrelated==2\n")
    (installed.root / "hang").touch()
    before = installed.builds
    first = installed.start()
    installed.wait_for_build(before + 1)
    second = installed.start()
    assert second.stderr is not None
    assert "waiting for another installation" in second.stderr.readline()
    (installed.root / "hang").unlink()
    assert first.communicate(timeout=60)[0] == "1\n"
    assert second.communicate(timeout=60)[0] == "1\n"
    assert installed.builds == before + 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_installation_is_repeated(installed: Project, how: signal.Signals) -> None:
    (installed.root / "constraints" / "cpu.txt").write_text(f"unrelated=={3 + how}\n")
    (installed.root / "hang").touch()
    before = installed.builds
    process = installed.start()
    installed.wait_for_build(before + 1)
    process.send_signal(how)
    assert process.wait(60) != 0
    repeated = installed.start()
    if how == signal.SIGKILL:  # pip outlives it, and the next one waits for pip
        assert repeated.stderr is not None
        assert "waiting for another installation" in repeated.stderr.readline()
    (installed.root / "hang").unlink()
    assert repeated.communicate(timeout=60)[0] == "1\n"
    assert repeated.returncode == 0
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert installed.builds == before + 2


def test_a_failing_installation_shows_the_logs_end(installed: Project) -> None:
    (installed.root / "constraints" / "cpu.txt").write_text("unrelated==9\n")
    (installed.root / "fail").touch()
    status, out, err = installed.run()
    assert (status, out) == (1, "")
    assert "this build fails on purpose" in err
    assert str(installed.root / ".cache" / "install.log") in err
    assert "Traceback" not in err.split("The log's end:")[0]
    (installed.root / "fail").unlink()
    assert installed.run()[0] == 0


def test_an_environment_whose_python_is_gone_is_made_again(installed: Project) -> None:
    python = installed.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert installed.run()[:2] == (0, "1\n")


def test_other_constraints_and_none(installed: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("small==2\n")
    status, _, err = installed.run(GPT_OSS_CONSTRAINTS=str(other))
    assert status == 1
    assert "No matching distribution found for small" in err
    assert installed.run(GPT_OSS_CONSTRAINTS="")[:2] == (0, "1\n")
    status, _, err = installed.run(GPT_OSS_CONSTRAINTS="/nowhere")
    assert (status, err) == (1, "error: GPT_OSS_CONSTRAINTS names /nowhere, which is not a file.\n")


def pretend(
    project: Project,
    *,
    version: tuple[int, ...],
    path: str = "",
    machine: str = "x86_64",
    glibc: str = "2.35",
) -> str:
    """What the script says under another Python, PATH, machine or C library; only those facts are made up."""
    (project.root / ".venv").mkdir(exist_ok=True)
    script = (
        "import sys, platform; sys.path.insert(0, sys.argv[1]); import environment\n"
        f"sys.version_info = {(*version, 'final', 0)!r}; platform.machine = lambda: {machine!r}\n"
        f"platform.libc_ver = lambda: ('glibc', {glibc!r})\n"
        "sys.argv = ['scripts/start']; environment.run(['one'], ['-c', 'pass'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(project.root / "scripts")],
        capture_output=True, text=True, check=False, env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("version", "reason"),
    [((3, 10, 1), "Python 3.10: this project needs a newer one"), ((3, 13, 0), "Python 3.13: the embedded")],
)
def test_a_python_that_does_not_fit_is_refused(fresh: Project, version: tuple[int, ...], reason: str) -> None:
    said = pretend(fresh, version=version)
    assert reason in said
    assert "Install Python 3.11 or 3.12" in said


def test_a_fitting_python_on_the_path_is_used_instead(fresh: Project, tmp_path: Path) -> None:
    minor = sys.version_info.minor
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / f"python3.{minor}").symlink_to(sys.executable)
    assert ".venv is ready" in pretend(fresh, version=(3, 13, 0), path=str(directory))


def test_another_machine_is_told_what_the_containers_need(fresh: Project) -> None:
    said = pretend(fresh, version=(3, 11, 1), machine="aarch64")
    assert "on aarch64" in said
    assert "need an NVIDIA GPU" in said


def test_an_old_c_library_is_refused_before_anything_is_fetched(fresh: Project) -> None:
    said = pretend(fresh, version=(3, 11, 1), glibc="2.34")
    assert "glibc 2.34, and the tritonserver that comes from pip needs 2.35" in said
    assert "making .venv" not in said


def test_without_ensurepip_it_says_what_to_install(fresh: Project, tmp_path: Path) -> None:
    directory = tmp_path / "bin"
    directory.mkdir()
    python = directory / "python3.11"
    # A Python that lacks the module, as Debian's does until python3-venv is installed.
    python.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = pretend(fresh, version=(3, 13, 0), path=f"{directory}:/bin:/usr/bin")
    assert "apt install python3-venv" in said


def test_without_a_gpu_it_says_how_to_do_without_cuda(fresh: Project, tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PATH": str(tmp_path)}
    _, _, err = fresh.run(**nowhere)
    assert "torch from PyPI brings several GB" in err
    _, _, err = fresh.run("two", **{**nowhere, "PIP_FIND_LINKS": "/somewhere"})
    assert "requirements have changed" in err
    assert "several GB" not in err


def test_the_stamp_says_what_is_installed(installed: Project) -> None:
    stamp = json.loads((installed.root / ".venv" / "gpt-oss-triton.json").read_text())
    assert stamp["extras"] == sorted(stamp["extras"])
    assert set(stamp) == {"requirements", "extras"}
