"""Which engine serves, and why."""

from __future__ import annotations

import importlib.util
import locale
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.capabilities import NATIVE, VLLM, EngineName
from gpt_oss_triton.engine.protocol import Engine
from gpt_oss_triton.engine.script import Script
from gpt_oss_triton.errors import ConfigurationError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice looks at.

    Attributes:
        vllm: it is installed where this process runs.
        gpus: bytes of memory of each GPU.
        nvidia: they are NVIDIA's.
    """

    vllm: bool
    gpus: tuple[int, ...] = ()
    nvidia: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    engine: EngineName
    reason: str


def make_engine(settings: EngineSettings, checkpoint: Callable[[], Path]) -> Engine:
    """The configured engine, started.

    Args:
        checkpoint: finds the checkpoint's directory; not called for an engine that needs none.

    Raises:
        ConfigurationError: it cannot be served as configured.
    """
    # Imported where they are needed: the native engine brings torch, and vLLM may not be installed.
    if settings.script is not None:  # the settings have it exactly with this engine
        from gpt_oss_triton.engine.scripted import ScriptedEngine

        log.warning("engine scripted: answers are replayed from %s, no model is computed", settings.script)
        return ScriptedEngine(Script.read(settings.script), settings)
    directory = checkpoint()
    choice = (
        choose(settings, weight_bytes(directory), machine())
        if settings.engine == "auto"
        else Choice(settings.engine, "configured")
    )
    log.info("engine %s: %s", choice.engine, choice.reason)
    if choice.engine == "vllm":
        # Triton's stub gives Python no locale, and vLLM reads files of UTF-8 in the locale's encoding.
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        from gpt_oss_triton.engine.vllm_engine import VllmEngine

        return VllmEngine.from_settings(settings, directory)
    from gpt_oss_triton.engine.native import NativeEngine

    return NativeEngine.from_settings(settings, directory)


def choose(settings: EngineSettings, weights: int, on: Machine) -> Choice:
    """What `auto` means here: the native engine, unless only vLLM can do what is asked.

    Args:
        weights: bytes of the checkpoint.

    Raises:
        ConfigurationError: vLLM would be needed, and is not installed.
    """
    need = _beyond_native(settings, weights, on)
    if need is None:
        installed = "is installed too" if on.vllm else "is not installed"
        return Choice(NATIVE.engine, f"it serves all that is configured; vLLM {installed}")
    if not on.vllm:
        raise ConfigurationError(
            f"the native engine does not serve this: {need}; and vLLM is not installed here."
        )
    return Choice(VLLM.engine, f"the native engine does not serve this: {need}")


def _beyond_native(settings: EngineSettings, weights: int, on: Machine) -> str | None:
    """What the native engine lacks here; None when it lacks nothing."""
    if on.gpus and not on.nvidia:
        return "its kernels are for NVIDIA's GPUs"
    if settings.gpu_mode not in ("auto", *NATIVE.gpu_modes):
        return f"gpu_mode {settings.gpu_mode}"
    spreads = len(NATIVE.gpu_modes) > 1
    if settings.gpu_mode == "auto" and not spreads and len(on.gpus) > 1 and weights > max(on.gpus):
        return (
            f"the weights ({weights / 2**30:.0f} GiB) fit on none of the {len(on.gpus)} GPUs "
            f"(largest: {max(on.gpus) / 2**30:.0f} GiB)"
        )
    return None


def machine() -> Machine:
    """This one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    sizes = tuple(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    installed = importlib.util.find_spec("vllm") is not None
    return Machine(installed, sizes, nvidia=torch.version.hip is None)


def weight_bytes(checkpoint: Path) -> int:
    """Of its files, which is what an engine holds of it at least."""
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
