"""The demo model: the committed file, expanded to a checkpoint in the cache directory."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from gpt_oss_triton import __version__
from gpt_oss_triton.demo import checksums, committed
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch.bound_exec import bound
from gpt_oss_triton.launch.signals import Stopped

_POLL_S = 0.1
MODEL_ID = "gpt-oss-demo"
# It was taught no conversation longer than 500 tokens, and must share a laptop.
ENGINE_PRESETS = {"max_context": 4096, "default_max_tokens": 256, "kv_cache_gib": 0.25}
# A model this small is right the more often the less is left to chance, and to itself.
FRONTEND_PRESETS = {"default_temperature": 0.5, "guided_calls": True}


def demo_checkpoint(cache: Path, say: Callable[[str], None], stopping: Callable[[], bool]) -> Path:
    """The demo model's directory, checked; written on first use, and again when it was damaged.

    Raises:
        ConfigurationError: it cannot be written; the message says why.
        Stopped: `stopping` became true before it was there.
    """
    directory = place(cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "demo.lock").open("w") as lock:
            _lock(lock, stopping)  # two first starts at once: one writes, the other waits
            if not checksums.intact(directory):
                _clear(directory, say)
                _expand(directory, say, stopping)
    except OSError as error:
        raise ConfigurationError(f"cannot write the demo model to {cache}: {error.strerror}.") from None
    return directory


def place(cache: Path) -> Path:
    """Where it belongs: another model, or code that may write it in another way, has another place.

    Raises:
        ConfigurationError: the installation has no demo model.
    """
    return cache / f"demo-{__version__}-{committed.manifest()[committed.HASH][:12]}"


def _clear(directory: Path, say: Callable[[str], None]) -> None:
    """Make way. Under the lock, what is half written is a killed launcher's."""
    if directory.exists():
        say(f"{directory} is damaged: writing it anew")
        shutil.rmtree(directory)
    for partial in directory.parent.glob(f".{directory.name}.partial-*"):
        shutil.rmtree(partial)


def _lock(file: IO[str], stopping: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stopping():
                raise Stopped from None
            time.sleep(_POLL_S)
        else:
            return


def _expand(directory: Path, say: Callable[[str], None], stopping: Callable[[], bool]) -> None:
    started = time.monotonic()
    say("expanding the demo model (once)")
    # A process of its own: this needs torch, which the launcher then need not keep in memory.
    process = subprocess.Popen(  # noqa: S603 - our own module, no shell
        bound(sys.executable, "-m", "gpt_oss_triton.demo", "--out", str(directory)),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the launcher
    )
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(_POLL_S)
            break
        if stopping():
            process.terminate()  # it removes what it has written so far
            process.wait()
            raise Stopped
    if status:
        raise ConfigurationError("the demo model could not be expanded; the reason is above.")
    say(f"the demo model is in {directory} ({time.monotonic() - started:.1f} s)")
