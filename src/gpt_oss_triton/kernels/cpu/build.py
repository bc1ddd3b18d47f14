"""Builds the C++ kernels once for this machine and finds them again.

They are compiled by the machine's own g++ into the user's cache directory, under a name that tells source,
compiler and options apart. Whatever stands in the way, a machine without a compiler included, is a reason to
compute with plain torch, never a reason not to start: `find` says which.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "source"
NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "avx512_vnni", "bmi2", "fma")
# The instructions by name and not `native`: the cache may lie in a home directory that unequal machines share.
OPTIONS = (
    "-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-mprefer-vector-width=512", "-fno-math-errno",
    *(f"-m{name.replace('_', '')}" for name in NEEDED),
)  # fmt: skip
COMPILE_TIMEOUT_S = 300.0


class Unavailable(Exception):
    """Why the kernels cannot be used here, in a sentence."""


def find() -> Path:
    """The shared library, compiled now unless it has been before.

    Raises:
        Unavailable: this machine lacks the instructions, or a compiler, or a place to put the result.
    """
    _check_machine()
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    try:
        directory = _cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / f"{_fingerprint(compiler)}.so"
        if not library.exists():
            if compiler is None:
                raise Unavailable("there is no C++ compiler (g++)")
            with (directory / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # two engines of one machine start together
                if not library.exists():
                    _compile(compiler, library)
        return library
    except OSError as error:
        raise Unavailable(f"they cannot be built: {error}") from None


def _check_machine() -> None:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise Unavailable(
            f"they are written for x86-64 under Linux, this is {platform.machine()} {platform.system()}"
        )
    flags = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), ""
    )
    missing = sorted(set(NEEDED) - set(flags.split()))
    if missing:
        raise Unavailable(f"this processor lacks {', '.join(missing)}")


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "gpt-oss-triton" / "kernels"
    except RuntimeError:  # as in a container that runs under a number without a name
        return Path(tempfile.gettempdir()) / f"gpt-oss-triton-{os.getuid()}" / "kernels"


def _fingerprint(compiler: str | None) -> str:
    digest = hashlib.blake2b(" ".join(OPTIONS).encode(), digest_size=10)
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    if compiler is not None:
        version = subprocess.run([compiler, "-dumpfullversion"], capture_output=True, check=False, timeout=60)  # noqa: S603
        digest.update(version.stdout)
    return f"cpu-{digest.hexdigest()}"


def _compile(compiler: str, library: Path) -> None:
    log.info("compiling the CPU kernels with %s, once for this machine …", compiler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        made = Path(directory) / library.name
        try:
            run = subprocess.run(  # noqa: S603
                [compiler, *OPTIONS, str(SOURCES / "kernels.cpp"), "-o", str(made)],
                capture_output=True, text=True, errors="replace", check=False, timeout=COMPILE_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{compiler} took longer than {COMPILE_TIMEOUT_S:.0f} s") from None
        if run.returncode:
            first = next((line for line in run.stderr.splitlines() if "error" in line), run.stderr[:200])
            raise Unavailable(f"{compiler} failed: {first}")
        made.replace(library)  # whole or not at all
    log.info("compiled the CPU kernels in %.1f s: %s", time.monotonic() - began, library)
