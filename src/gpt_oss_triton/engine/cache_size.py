"""How many KV blocks there is memory for."""

from __future__ import annotations

import torch

from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.machine import available_memory

GIB = 2**30
GPU_SHARE = 0.9  # of the memory that is free once weights, graphs and a step's own memory are reckoned with
CPU_SHARE = 0.25  # of the memory that is available; the rest of the machine needs some


def memory_for_cache(device: torch.device, ranks: int = 1, reserved: int = 0) -> int:
    """Bytes for the part of the cache that one of `ranks` processes holds on `device`, weights in place.

    Args:
        reserved: bytes that the process will take besides.
    """
    if device.type == "cuda":
        return int((torch.cuda.mem_get_info(device)[0] - reserved) * GPU_SHARE)
    return int((available_memory() - reserved) * CPU_SHARE) // ranks


def cache_blocks(
    settings: EngineSettings, config: ModelConfig, dtype: torch.dtype, parts: list[Part], memory: list[int]
) -> int:
    """The blocks that every part has memory for, none that the longest sequences could not use.

    Args:
        memory: of each part, bytes.

    Raises:
        ConfigurationError: too few to work with.
    """
    size = settings.block_size
    block_bytes = [part.token_bytes(config, dtype.itemsize) * size for part in parts]
    if settings.kv_cache_gib is not None:
        affordable = int(settings.kv_cache_gib * GIB) // sum(block_bytes)
    else:
        affordable = min(room // own for room, own in zip(memory, block_bytes, strict=True))
    useful = BlockShape(size, config.sliding_window).needed(longest(settings, config))
    blocks = min(affordable, useful * settings.max_sequences)
    if blocks < 2:
        budget = settings.kv_cache_gib or min(memory) / GIB
        raise ConfigurationError(
            f"{budget:.2f} GiB for the KV cache hold {blocks} blocks of {size} tokens; raise kv_cache_gib or free "
            "memory."
        )
    return blocks


def longest(settings: EngineSettings, config: ModelConfig) -> int:
    """Tokens of one sequence."""
    return min(settings.max_context or config.max_context, config.max_context)


def make_cache(
    config: ModelConfig, part: Part, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """[places, 2, slots, kv_heads, head_dim] of the part; see `Part.cache_places`."""
    places, heads = max(part.cache_places(config)) + 1, config.kv_heads // part.shares
    return torch.zeros(places, 2, blocks * block_size, heads, config.head_dim, dtype=dtype, device=device)
