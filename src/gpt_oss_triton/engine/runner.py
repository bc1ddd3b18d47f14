"""The model and its cache on one device: computes a step's chunks and samples their next tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.sampler import sample_hidden
from gpt_oss_triton.engine.scheduler import Chunk
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.machine import available_memory

log = logging.getLogger(__name__)

GIB = 2**30
GPU_CACHE_SHARE = 0.85  # of the memory that is free once the weights are in place
CPU_CACHE_SHARE = 0.25  # of the memory that is available; the rest of the machine needs some


class Runner:
    """Owns weights and cache. Used by one thread."""

    def __init__(self, config: ModelConfig, model: Model, cache: torch.Tensor, block_size: int) -> None:
        self.config = config
        self.dtype = cache.dtype
        self.device = cache.device
        self.block_size = block_size
        self.blocks = cache.shape[2] // block_size
        self.block_bytes = cache.nbytes // self.blocks
        self._model = model
        self._cache = cache
        self._builder = BatchBuilder(config, block_size, cache.dtype, cache.device)

    @classmethod
    def from_checkpoint(cls, directory: Path, settings: EngineSettings) -> Runner:
        """Load weights, then size the cache by what memory is left.

        Raises:
            ConfigurationError: the checkpoint or the settings cannot be served.
        """
        config = ModelConfig.from_checkpoint(directory)
        device = _device(settings)
        dtype = _dtype(settings, config, device)
        try:
            model = Model(config, WeightLoader(directory, config, dtype, device).load())
            blocks = _cache_blocks(settings, config, dtype, device)
            slots = blocks * settings.block_size
            cache = torch.zeros(
                config.layers, 2, slots, config.kv_heads, config.head_dim, dtype=dtype, device=device
            )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ConfigurationError(
                f"{directory.name} in {dtype} and its cache do not fit into the memory of {device}: {error}"
            ) from None
        log.info(
            "%s on %s in %s; cache %d blocks of %d tokens, %.2f GiB",
            directory.name, device, dtype, blocks, settings.block_size, cache.nbytes / GIB,
        )  # fmt: skip
        return cls(config, model, cache, settings.block_size)

    @torch.inference_mode()
    def run(self, chunks: list[Chunk]) -> list[int | None]:
        """Compute the chunks, write their keys and values, and sample a token for each that `samples`; None
        where the logits are no numbers.

        Computing a chunk twice writes the same cache slots again, so a failed step can be repeated.
        """
        batch = self._builder.build([_segment(chunk) for chunk in chunks])
        hidden = self._model.forward(batch, self._cache)
        rows = [c.sequence.sampling for c in chunks if c.samples]
        return sample_hidden(hidden, rows, self._model.vocabulary)


def _segment(chunk: Chunk) -> Segment:
    s = chunk.sequence
    return Segment(s.token_ids[s.computed : s.computed + chunk.tokens], s.computed, s.blocks, chunk.samples)


def _device(settings: EngineSettings) -> torch.device:
    if settings.gpu_mode in ("pipeline", "tensor"):
        raise ConfigurationError(
            f"gpu_mode {settings.gpu_mode!r} is not served by the native engine; use 'single' or 'auto'."
        )
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"device {settings.device!r} cannot be used: {error}") from None
    return device


def _dtype(settings: EngineSettings, config: ModelConfig, device: torch.device) -> torch.dtype:
    """bfloat16 from compute capability 8.0 on, float16 below; on CPU what the checkpoint was written in."""
    name = settings.dtype
    if name == "auto":
        if device.type == "cuda":
            name = "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
        else:
            name = "float32" if config.dtype == "float32" else "bfloat16"
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[name]


def _cache_blocks(
    settings: EngineSettings, config: ModelConfig, dtype: torch.dtype, device: torch.device
) -> int:
    token_bytes = 2 * config.layers * config.kv_heads * config.head_dim * dtype.itemsize
    if settings.kv_cache_gib is not None:
        budget = int(settings.kv_cache_gib * GIB)
    elif device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(device)[0] * GPU_CACHE_SHARE)
    else:
        budget = int(available_memory() * CPU_CACHE_SHARE)
    context = min(settings.max_context or config.max_context, config.max_context)
    useful = -(-context // settings.block_size) * settings.max_sequences
    blocks = min(budget // (token_bytes * settings.block_size), useful)
    if blocks < 2:
        raise ConfigurationError(
            f"{budget / GIB:.2f} GiB for the KV cache hold {blocks} blocks of {settings.block_size} tokens at "
            f"{token_bytes} bytes a token; raise kv_cache_gib or free memory."
        )
    return blocks
