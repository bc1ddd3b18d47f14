"""What is decided before an engine is built: which model, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.plan import Plan


@dataclass(frozen=True, slots=True)
class Blueprint:
    """
    Attributes:
        checkpoint: the directory.
        plan: how the model spreads over the devices.
        device: of rank 0, where samples are drawn.
        dtype: of activations, unpacked weights and the cache.
    """

    checkpoint: Path
    config: ModelConfig
    settings: EngineSettings
    plan: Plan
    device: torch.device
    dtype: torch.dtype
