"""The demo checkpoint: the architecture, the packing and the tokenizer of gpt-oss, small, with random weights."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gpt_oss_triton.errors import ConfigurationError

MODEL_ID = "gpt-oss-demo"
SHAPE, DTYPE, SEED = "tiny", "mxfp4", 0
# A laptop's share: the vocabulary's embedding dominates anyway, and a visitor wants an end to the noise.
ENGINE_PRESETS = {"max_context": 4096, "default_max_tokens": 256, "kv_cache_gib": 0.25}


def demo_checkpoint(cache: Path, say: Callable[[str], None]) -> Path:
    """The demo checkpoint's directory; built on first use.

    Raises:
        ConfigurationError: it cannot be built; the message says why.
    """
    directory = cache / f"demo-{SHAPE}-{DTYPE}-{SEED}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "demo.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first starts at once: one builds, the other waits
            if not directory.exists():  # it appears only when it is whole
                _build(directory, say)
    except OSError as error:
        raise ConfigurationError(f"cannot write the demo checkpoint to {cache}: {error.strerror}.") from None
    return directory


def _build(directory: Path, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    say("building the demo checkpoint (once)")
    # A process of its own: building needs torch, which the launcher then need not keep in memory.
    options = ["--shape", SHAPE, "--dtype", DTYPE, "--seed", str(SEED), "--out", str(directory)]
    done = subprocess.run(  # noqa: S603 - our own module, no shell
        [sys.executable, "-m", "gpt_oss_triton.checkpoint", *options], stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise ConfigurationError("the demo checkpoint could not be built; the reason is above.")
    say(f"built {directory} ({time.monotonic() - started:.1f} s)")
