"""vLLM's figures as the record that leaves an engine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from typing import Any

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.answer_progress import AnswerProgress
from gpt_oss_triton.engine.capabilities import VLLM
from gpt_oss_triton.engine.counters import Counters, longest_wait
from gpt_oss_triton.wire import RECORDS_FORM, Load


class VllmLoad:
    """Makes `Load` records of one vLLM engine. Used under its engine's lock, which `record` takes itself.

    Attributes:
        counters: totals and rates.
        preemptions: of all answers that have ended.
        max_context, block_size: tokens; known once vLLM has started.
    """

    def __init__(self, settings: EngineSettings, checkpoint: str, lock: threading.Lock) -> None:
        self.counters = Counters()
        self.preemptions = 0
        self.max_context = 0
        self.block_size = settings.block_size
        self._lock = lock
        self._settings = settings
        self._checkpoint = checkpoint
        self._started = time.time()
        self._running = 0
        self._usage = 0.0  # share of the blocks that sequences hold
        self._config: Any = None

    def describe(self, config: Any) -> None:
        """`config` is vLLM's own, after its start."""
        self._config = config
        self.max_context = config.model_config.max_model_len
        self.block_size = config.cache_config.block_size

    # ------------------------------------------------------ what vLLM asks of a logger of its statistics

    def logger(self, config: Any, engine_index: int) -> VllmLoad:
        """vLLM calls this to make one."""
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *others: Any, **more: Any) -> None:
        """After each step, on the engine's thread."""
        with self._lock:
            if scheduler_stats is not None:
                self._running = scheduler_stats.num_running_reqs
                self._usage = scheduler_stats.kv_cache_usage
            if iteration_stats is not None:
                self.counters.count_step(
                    output_tokens=iteration_stats.num_generation_tokens, prompt_tokens=0, seconds=0.0
                )

    def log(self) -> None:
        """There is nothing to write."""

    def log_engine_initialized(self) -> None:
        """There is nothing to write."""

    # --------------------------------------------------------------------------------------------------

    def report(self, number: int, live: Collection[AnswerProgress]) -> Load:
        """Args:
        number: the record's place in its watch.
        live: every request that has not ended, waiting ones included.
        """
        settings, config, counters = self._settings, self._config, self.counters
        blocks = config.cache_config.num_gpu_blocks or 0
        running = min(self._running, len(live))  # it was told a step ago
        parallel = config.parallel_config
        return Load(
            pid=os.getpid(),
            started=self._started,
            sequence=number,
            running=running,
            waiting=len(live) - running,
            blocks_total=blocks,
            blocks_used=round(self._usage * blocks) if live else 0,
            blocks_cached=0,  # vLLM counts them as free
            block_size=self.block_size,
            max_context=self.max_context,
            max_sequences=settings.max_sequences,
            max_waiting=settings.max_waiting,
            steps=counters.steps,
            step_age_s=0.0,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            output_tokens=counters.output_tokens,
            preemptions=self.preemptions,
            failed_steps=0,
            output_tokens_per_s=counters.rate(),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            device=str(config.device_config.device_type),
            checkpoint=self._checkpoint,
            engine=VLLM.engine,
            gpu_mode=_mode(parallel),
            tensor_parallel=parallel.tensor_parallel_size,
            pipeline_parallel=parallel.pipeline_parallel_size,
            profile=settings.profile,
            records_form=RECORDS_FORM,
            max_step_tokens=config.scheduler_config.max_num_batched_tokens,
            configured_step_tokens=config.scheduler_config.max_num_batched_tokens,
            queue_wait_s=longest_wait(p.arrived for p in live if p.scheduled_at is None),
        )


def _mode(parallel: Any) -> str:
    if parallel.pipeline_parallel_size > 1:
        return "pipeline"
    return "tensor" if parallel.tensor_parallel_size > 1 else "single"
