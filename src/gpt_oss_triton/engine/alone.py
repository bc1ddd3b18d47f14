"""Starts an engine whose model and cache are on one device."""

from __future__ import annotations

import logging
import time

import torch

from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.blueprint import Blueprint
from gpt_oss_triton.engine.cache_size import cache_blocks, longest, make_cache, memory_for_cache
from gpt_oss_triton.engine.decode_graph import DecodeGraphs, cuda_recorder
from gpt_oss_triton.engine.executor import Executor, LocalExecutor
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.kernels.operations import why_no_gpu_kernels
from gpt_oss_triton.kernels.sampling import Rule, draw

log = logging.getLogger(__name__)


def start_alone(blueprint: Blueprint) -> tuple[Executor, int]:
    """Load the checkpoint and make the cache, on a GPU with the graphs of decode steps.

    Returns:
        What computes steps, and the blocks of its cache.

    Raises:
        ConfigurationError: the checkpoint cannot be served.
    """
    b = blueprint
    model = Model(b.config, WeightLoader(b.checkpoint, b.config, b.dtype, b.device).load())
    start = _Start(b, model)
    reserved = start.rehearse() if b.device.type == "cuda" else 0
    blocks = cache_blocks(
        b.settings, b.config, b.dtype, b.plan.parts, [memory_for_cache(b.device, reserved=reserved)]
    )
    return start.executor(blocks), blocks


class _Start:
    def __init__(self, blueprint: Blueprint, model: Model) -> None:
        b = blueprint
        self._config, self._settings, self._model = b.config, b.settings, model
        self._device, self._dtype = b.device, b.dtype
        # Plain torch reads counts back from the GPU, which a graph cannot, and so do experts that are not packed.
        has_graphs = b.device.type == "cuda" and b.config.mxfp4 and why_no_gpu_kernels(b.device) is None
        self._aside = torch.cuda.Stream(b.device) if has_graphs else None  # type: ignore[no-untyped-call]

    def executor(self, blocks: int) -> LocalExecutor:
        config, size = self._config, self._settings.block_size
        cache = make_cache(config, Part.whole(config), blocks, size, self._dtype, self._device)
        builder = BatchBuilder(size, self._device)
        return LocalExecutor(self._model, cache, builder, self._graphs(cache))

    @torch.inference_mode()
    def rehearse(self) -> int:
        """Bytes that the largest step and the graphs take beside weights and cache.

        The graphs hold addresses in the cache, so these are dropped and recorded again when it stands; that is
        quick, for everything is compiled by then."""
        settings, free = self._settings, self._free()
        tokens = max(settings.max_step_tokens, settings.max_sequences)
        count = -(-tokens // settings.block_size)
        executor = self.executor(2 * count)
        graphs = free - self._free()
        torch.cuda.reset_peak_memory_stats(self._device)
        held = torch.cuda.memory_allocated(self._device)
        blocks, window_blocks = list(range(count)), list(range(count, 2 * count))
        hidden = executor.forward([Segment([0] * tokens, 0, blocks, window_blocks, sample=True)])
        logits = self._model.vocabulary.logits(hidden.expand(settings.max_sequences, -1).contiguous()).float()
        draw(logits, [Rule(1.0, top_k=50, top_p=0.9)] * settings.max_sequences)
        step = torch.cuda.max_memory_allocated(self._device) - held
        log.info("the largest step takes %.2f GB, graphs %.2f GB", step / 1e9, graphs / 1e9)
        del executor, hidden, logits
        self._free()  # for the cache
        return step + graphs

    def _free(self) -> int:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]

    @torch.inference_mode()
    def _graphs(self, cache: torch.Tensor) -> DecodeGraphs | None:
        if self._aside is None:
            return None
        began = time.monotonic()
        graphs = DecodeGraphs(
            self._model,
            cache,
            block_size=self._settings.block_size,
            most_sequences=self._settings.max_sequences,
            most_blocks=-(-longest(self._settings, self._config) // self._settings.block_size),
            record=cuda_recorder(self._aside),
        )
        log.info("decode graphs recorded in %.1f s", time.monotonic() - began)
        return graphs
