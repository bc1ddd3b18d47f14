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
        gpus: how many.
        nvidia: they are NVIDIA's.
    """

    vllm: bool
    gpus: int = 0
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
    choice = choose(machine()) if settings.engine == "auto" else Choice(settings.engine, "configured")
    log.info("engine %s: %s", choice.engine, choice.reason)
    if choice.engine == "vllm":
        # Triton's stub gives Python no locale, and vLLM reads files of UTF-8 in the locale's encoding.
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        from gpt_oss_triton.engine.vllm_engine import VllmEngine

        return VllmEngine.from_settings(settings, directory)
    from gpt_oss_triton.engine.native import NativeEngine

    return NativeEngine.from_settings(settings, directory)


def choose(on: Machine) -> Choice:
    """What `auto` means here: the native engine, unless only vLLM can compute here.

    Raises:
        ConfigurationError: vLLM would be needed, and is not installed.
    """
    if on.nvidia or not on.gpus:
        installed = "is installed too" if on.vllm else "is not installed"
        return Choice(NATIVE.engine, f"it serves all that is configured; vLLM {installed}")
    if not on.vllm:
        raise ConfigurationError(
            "the native engine's kernels are for NVIDIA's GPUs, and vLLM is not installed here."
        )
    return Choice(VLLM.engine, "the native engine's kernels are for NVIDIA's GPUs")


def machine() -> Machine:
    """This one."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(importlib.util.find_spec("vllm") is not None, gpus, nvidia=torch.version.hip is None)
