"""The demo checkpoint: the architecture, the packing and the tokenizer of gpt-oss, small, with random weights."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch.bound_exec import bound
from gpt_oss_triton.launch.signals import Stopped

_POLL_S = 0.1
MODEL_ID = "gpt-oss-demo"
SHAPE, DTYPE, SEED = "tiny", "mxfp4", 0
# A laptop's share: the vocabulary's embedding dominates anyway, and a visitor wants an end to the noise.
ENGINE_PRESETS = {"max_context": 4096, "default_max_tokens": 256, "kv_cache_gib": 0.25}


def demo_checkpoint(cache: Path, say: Callable[[str], None], stopping: Callable[[], bool]) -> Path:
    """The demo checkpoint's directory; built on first use.

    Raises:
        ConfigurationError: it cannot be built; the message says why.
        Stopped: `stopping` became true before it was there.
    """
    directory = cache / f"demo-{SHAPE}-{DTYPE}-{SEED}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "demo.lock").open("w") as lock:
            _lock(lock, stopping)  # two first starts at once: one builds, the other waits
            if not directory.exists():  # it appears only when it is whole
                _build(directory, say, stopping)
    except OSError as error:
        raise ConfigurationError(f"cannot write the demo checkpoint to {cache}: {error.strerror}.") from None
    return directory


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


def _build(directory: Path, say: Callable[[str], None], stopping: Callable[[], bool]) -> None:
    started = time.monotonic()
    say("building the demo checkpoint (once)")
    # A process of its own: building needs torch, which the launcher then need not keep in memory.
    options = ["--shape", SHAPE, "--dtype", DTYPE, "--seed", str(SEED), "--out", str(directory)]
    process = subprocess.Popen(  # noqa: S603 - our own module, no shell
        bound(sys.executable, "-m", "gpt_oss_triton.checkpoint", *options),
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
        raise ConfigurationError("the demo checkpoint could not be built; the reason is above.")
    say(f"built {directory} ({time.monotonic() - started:.1f} s)")
