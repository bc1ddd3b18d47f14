"""How an engine spreads over the devices of its machine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.kernels.mxfp4 import BLOCK
from gpt_oss_triton.kernels.operations import why_no_gpu_kernels

ROOM = 0.85  # of a device's free memory for weights alone: the rest is for a cache worth having


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        parts: of each rank.
        reason: why this mode, for the log.
    """

    mode: Literal["single", "pipeline", "tensor"]
    parts: list[Part]
    reason: str

    @property
    def ranks(self) -> int:
        return len(self.parts)


def choose_plan(
    settings: EngineSettings, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> Plan:
    """
    Args:
        device: of rank 0.

    Raises:
        ConfigurationError: the mode that was asked for does not suit the model or the machine.
    """
    ranks = _ranks(settings, device)
    mode, reason = settings.gpu_mode, "gpu_mode says so"
    if mode == "auto":
        mode, reason = _choose_mode(config, device, dtype, ranks)
    if mode == "single":
        return Plan("single", [Part.whole(config)], reason)
    if ranks < 2:
        raise ConfigurationError(
            f"gpu_mode {mode!r} needs two devices at least, and there is {ranks}; on a CPU, parallel_ranks says how "
            "many processes share the work."
        )
    if mode == "tensor":
        if not _divides(config, ranks):
            raise ConfigurationError(
                f"gpu_mode 'tensor' cannot cut {config.kv_heads} KV heads and {config.experts} experts into {ranks} "
                "equal shares; set parallel_ranks to a number that divides both, or use 'pipeline'."
            )
        return Plan(mode, [Part(0, config.layers, share=n, shares=ranks) for n in range(ranks)], reason)
    if ranks > config.layers:
        raise ConfigurationError(
            f"gpu_mode 'pipeline' cannot cut {config.layers} layers into {ranks} ranges."
        )
    return Plan("pipeline", stages(config, dtype, device, ranks), reason)


def _ranks(settings: EngineSettings, device: torch.device) -> int:
    found = torch.cuda.device_count() if device.type == "cuda" else None
    asked = settings.parallel_ranks
    if asked is not None and found is not None and asked > found:
        raise ConfigurationError(f"parallel_ranks is {asked}, but there are {found} GPUs.")
    if device.index is not None and settings.gpu_mode == "auto":
        return asked or 1  # one device was named
    return asked or found or 1


def _choose_mode(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, ranks: int
) -> tuple[Literal["single", "pipeline", "tensor"], str]:
    if ranks == 1:
        return "single", "there is one device"
    if device.type != "cuda":
        return "single", "more processes make no CPU faster"
    needed, free = model_bytes(config, dtype, device), torch.cuda.mem_get_info(device)[0]
    sizes = f"weights take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device}"
    if needed <= free * ROOM:
        return "single", sizes
    if _divides(config, ranks):
        return "tensor", f"{sizes}; heads and experts divide by {ranks}"
    return (
        "pipeline",
        f"{sizes}; {config.kv_heads} KV heads or {config.experts} experts do not divide by {ranks}",
    )


def _divides(config: ModelConfig, ranks: int) -> bool:
    return config.kv_heads % ranks == 0 and config.experts % ranks == 0


def stages(config: ModelConfig, dtype: torch.dtype, device: torch.device, ranks: int) -> list[Part]:
    """Layer ranges whose largest, the ends of the model with the first, is as small as can be.

    All layers are of one size, so this needs no search; accelerate's device map would, and puts the vocabulary
    where the last layers are."""
    layer, ends = layer_bytes(config, dtype, device), ends_bytes(config, dtype)

    def largest(first: int) -> int:
        return max(first * layer + ends, -(-(config.layers - first) // (ranks - 1)) * layer)

    first = min(range(1, config.layers - ranks + 2), key=largest)
    cuts = [0, *(first + (config.layers - first) * n // (ranks - 1) for n in range(ranks))]
    return [Part(a, b, ends=n == 0) for n, (a, b) in enumerate(itertools.pairwise(cuts))]


def model_bytes(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> int:
    """Of all weights as `device` keeps them, norms, biases and the like left out."""
    return config.layers * layer_bytes(config, dtype, device) + ends_bytes(config, dtype)


def layer_bytes(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> int:
    c = config
    attention = (2 * c.heads + 2 * c.kv_heads) * c.head_dim * c.hidden
    return (attention + c.experts * c.hidden) * dtype.itemsize + c.experts * expert_bytes(c, dtype, device)


def expert_bytes(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> int:
    weights = 3 * config.intermediate * config.hidden
    # MXFP4 stays packed but for plain torch on a GPU: half a byte a weight and a byte for each block.
    if config.mxfp4 and not (device.type == "cuda" and why_no_gpu_kernels(device)):
        return weights * (BLOCK // 2 + 1) // BLOCK
    return weights * dtype.itemsize


def ends_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    return 2 * config.vocabulary * config.hidden * dtype.itemsize
