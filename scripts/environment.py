"""The virtual environment that every script here runs in: made on first use, checked on every use.

Standard library only, and syntax that an old Python still reads, because this is what tells a newcomer that
theirs is too old. A stamp inside the environment says what was installed from which requirements, so that a
second start costs milliseconds; it is removed before an installation and written after it, so that an
interrupted one is repeated.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "gpt-oss-triton.json"
CACHE = ROOT / ".cache"
LOG = CACHE / "install.log"
LOCK = CACHE / "install.lock"

# The embedded tritonserver needs NumPy 1, which has no wheels for Python 3.13.
OLDEST, NEWEST = (3, 11), (3, 12)
_OLDEST_GLIBC = (2, 35)  # of its wheel's tag, manylinux_2_35
SERVE = ("frontend", "engine", "embedded")
DEV = ("dev",)  # holds all of SERVE

_REPORT_EVERY_S = 10.0
_TAIL_LINES = 15


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def run(extras: Sequence[str], arguments: Sequence[str]) -> None:
    """Replace this process by the environment's Python with `arguments`; make the environment first."""
    python = ready(extras)
    os.execv(python, [str(python), *arguments])  # noqa: S606 - our own interpreter, no shell wanted


def ready(extras: Sequence[str]) -> Path:
    """The Python of an environment that has the project with `extras`; ends the process where there is none."""
    try:
        return ensure(extras)
    except SetupError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the next start goes on from here")


def ensure(extras: Sequence[str]) -> Path:
    """Make or bring up to date, where needed, and return the environment's Python.

    Raises:
        SetupError: this machine, this Python or an installation step is at fault.
    """
    if _is_current(extras):
        return PYTHON
    _check_machine()
    with _lock():
        if not _is_current(extras):  # the holder of the lock before us may have done it
            _install(extras)
    return PYTHON


# ------------------------------------------------------------------------------------------------- stamp


def constraints_file() -> Path | None:
    """`constraints/cpu.txt`, or what GPT_OSS_CONSTRAINTS names (empty: none)."""
    named = os.environ.get("GPT_OSS_CONSTRAINTS")
    if named is None:
        return ROOT / "constraints" / "cpu.txt"
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        raise SetupError(f"GPT_OSS_CONSTRAINTS names {path}, which is not a file.")
    return path


def _requirements_digest() -> str:
    constraints = constraints_file()
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(b"\0" + constraints.read_bytes() if constraints else b"none")
    digest.update(str(ROOT).encode())  # a copied or moved environment still points at the old place
    return digest.hexdigest()


def _installed() -> dict[str, object]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _is_current(extras: Sequence[str]) -> bool:
    stamp = _installed()
    return (
        PYTHON.exists()
        and stamp.get("requirements") == _requirements_digest()
        and _covered(extras, stamp.get("extras"))
    )


def _covered(extras: Sequence[str], installed: object) -> bool:
    return isinstance(installed, list) and ("dev" in installed or set(extras) <= set(installed))


# ---------------------------------------------------------------------------------------- preconditions


def _check_machine() -> None:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise SetupError(
            f"this is {platform.system()} on {platform.machine()}, and the tritonserver that comes from pip runs on "
            "Linux on x86-64 only. The containers (README, Containers) run wherever Docker does, but need an NVIDIA GPU "
            "and a checkpoint: they have no demo."
        )
    library, version = platform.libc_ver()
    if library == "glibc" and _numbers(version) < _OLDEST_GLIBC:
        raise SetupError(
            f"this system has glibc {version}, and the tritonserver that comes from pip needs "
            f"{_OLDEST_GLIBC[0]}.{_OLDEST_GLIBC[1]} (Ubuntu 22.04, Debian 12, Fedora 36). The containers (README, "
            "Containers) bring their own."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def _find_python() -> str:
    """The running Python where it fits, else a fitting one from PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # Version managers leave names on PATH that only explain how to install the version.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    running = ".".join(map(str, sys.version_info[:2]))
    why = (
        "this project needs a newer one"
        if sys.version_info[:2] < OLDEST
        else "the embedded tritonserver needs NumPy 1, which has no packages for it"
    )
    raise SetupError(
        f"this is Python {running}: {why}. Install Python 3.11 or 3.12, or call this script with one "
        f"(python3.11 {sys.argv[0]})."
    )


# --------------------------------------------------------------------------------------------- installing


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    try:
        CACHE.mkdir(exist_ok=True)
        lock = LOCK.open("w")
    except OSError as error:
        raise SetupError(f"cannot write to {CACHE}: {error.strerror}.") from None
    with lock:
        os.set_inheritable(lock.fileno(), True)  # a pip that outlives this process holds the lock as well
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another installation into .venv to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(extras: Sequence[str]) -> None:
    started = time.monotonic()
    before = _installed()
    kept = before.get("extras")
    wanted = sorted({*extras, *(kept if isinstance(kept, list) else ())})
    STAMP.unlink(missing_ok=True)
    with LOG.open("w") as log:
        log.write(f"{time.strftime('%F %T')} Python {platform.python_version()} {sys.executable}\n")
    _say("first start: making .venv" if not before else "requirements have changed: updating .venv")
    _make_venv()
    if _may_bring_cuda():
        _say(
            "no nvidia-smi here, so perhaps no NVIDIA GPU, and torch from PyPI brings several GB for one. For its CPU build press Ctrl-C, set "
            "PIP_EXTRA_INDEX_URL to the address that pytorch.org/get-started/locally shows for pip and CPU, and start again"
        )
    constraints = constraints_file()
    _step(
        "installing",
        [
            *(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"),
            *(("-c", str(constraints)) if constraints else ()),
            *("-e", f"{ROOT}[{','.join(wanted)}]"),
        ],
        started,
    )
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps({"requirements": _requirements_digest(), "extras": wanted}))
    unfinished.replace(STAMP)
    _say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def _may_bring_cuda() -> bool:
    """Whether pip will fetch a build of torch that is of no use here, for all that can be seen from outside."""
    named = any(os.environ.get(f"PIP_{name}") for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS"))
    there = any(VENV.glob("lib/python*/site-packages/torch"))
    return not named and not there and shutil.which("nvidia-smi") is None


def _make_venv() -> None:
    """A `.venv` with a Python that starts and a pip, from whatever is there."""
    started = time.monotonic()
    if not _succeeds([str(PYTHON), "-c", "pass"]):
        if not _succeeds([_find_python(), "-c", "import venv, ensurepip"]):
            raise SetupError(
                f"{_find_python()} comes without the venv or ensurepip module "
                "(Debian, Ubuntu: apt install python3-venv)."
            )
        _step("making the environment", [_find_python(), "-m", "venv", "--clear", str(VENV)], started)
    minor = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    if not _succeeds([str(PYTHON), "-c", minor]):
        raise SetupError(f"{VENV} was made by another Python than 3.11 or 3.12: remove it and start again.")
    if not _succeeds([str(PYTHON), "-m", "pip", "--version"]):
        _step("installing pip", [str(PYTHON), "-m", "ensurepip", "--upgrade"], started)


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _step(what: str, command: list[str], started: float) -> None:
    """Run one command with its output in the log; say what it is at, and show the log's tail if it fails."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONHOME", None)
    with LOG.open("a") as log, LOG.open() as reader:
        reader.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
            close_fds=False,  # of ours only the lock is inheritable
        )
        try:
            _follow(what, process.poll, reader.readlines, started)
        finally:
            if process.poll() is None:  # interrupted
                process.terminate()
                process.wait()
    if process.returncode != 0:
        tail = "".join(f"  {line}\n" for line in LOG.read_text().splitlines()[-_TAIL_LINES:])
        raise SetupError(
            f"{what} failed (exit status {process.returncode}). The log's end:\n{tail}The whole log: {LOG}"
        )


def _follow(
    what: str, poll: Callable[[], int | None], new_lines: Callable[[], list[str]], started: float
) -> None:
    doing, said, said_at = what, "", started - _REPORT_EVERY_S
    while poll() is None:
        for line in new_lines():
            doing = _describe(line) or doing
        now = time.monotonic()
        if now - said_at >= (1.0 if doing != said else _REPORT_EVERY_S):
            _say(f"{now - started:4.0f} s  {doing}")
            said, said_at = doing, now
        time.sleep(0.1)


def _describe(line: str) -> str | None:
    """What a line of pip's output says that pip is at, or None."""
    if found := re.match(r"\s*Downloading (?:\S*/)?([\w.]+-[\w.+!]+)-\S* \((.+)\)", line):
        return f"downloading {found[1]} ({found[2]})"
    if found := re.match(r"Collecting ([\w.-]+)", line):
        return f"looking for {found[1]}"
    if found := re.match(r"Installing collected packages: (.*)", line):
        return f"installing {len(found[1].split(','))} packages"
    return None


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
