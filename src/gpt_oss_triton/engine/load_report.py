"""The engine's state as the record that leaves it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.counters import Counters, longest_wait
from gpt_oss_triton.engine.runner import Runner
from gpt_oss_triton.engine.scheduler import Scheduler
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.wire import RECORDS_FORM, Load


class LoadReport:
    """Makes `Load` records of one engine. Used under the engine's lock.

    Args:
        checkpoint: its directory's name.
        max_context: tokens of prompt and answer together.
    """

    def __init__(self, runner: Runner, settings: EngineSettings, checkpoint: str, max_context: int) -> None:
        self._runner = runner
        self._settings = settings
        self._checkpoint = checkpoint
        self._max_context = max_context
        self._started = time.time()

    def make(
        self,
        number: int,
        scheduler: Scheduler,
        counters: Counters,
        live: Collection[Sequence],
        step_began: float | None,
    ) -> Load:
        """Args:
        number: the record's place in its watch.
        live: every sequence that has not ended, waiting ones included.
        step_began: on the monotonic clock; None when no step runs.

        Raises:
            EngineUnavailable: the runner lost a part of itself, and nothing will run again.
        """
        if self._runner.lost is not None:
            raise EngineUnavailable(self._runner.lost)
        plan = self._runner.plan
        pool, leases = scheduler.pool, scheduler.leases
        return Load(
            pid=os.getpid(),
            started=self._started,
            sequence=number,
            running=len(scheduler.running),
            waiting=len(live) - len(scheduler.running),
            blocks_total=pool.total,
            blocks_used=pool.used,
            blocks_cached=pool.cached,
            block_size=pool.block_size,
            block_window=scheduler.tables.shape.window,
            max_context=self._max_context,
            max_sequences=self._settings.max_sequences,
            max_waiting=self._settings.max_waiting,
            steps=counters.steps,
            step_age_s=0.0 if step_began is None else time.monotonic() - step_began,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            output_tokens=counters.output_tokens,
            drafted_tokens=counters.drafted_tokens,
            accepted_tokens=counters.accepted_tokens,
            preemptions=scheduler.preemptions,
            failed_steps=counters.failed_steps,
            output_tokens_per_s=counters.rate(),
            dtype=str(self._runner.dtype).removeprefix("torch."),
            device=str(self._runner.device),
            checkpoint=self._checkpoint,
            engine="native",
            gpu_mode=plan.mode,
            tensor_parallel=plan.ranks if plan.mode == "tensor" else 1,
            pipeline_parallel=plan.ranks if plan.mode == "pipeline" else 1,
            profile=self._settings.profile,
            records_form=RECORDS_FORM,
            block_bytes=self._runner.block_bytes,
            max_step_tokens=scheduler.max_step_tokens,
            configured_step_tokens=scheduler.configured_step_tokens,
            prefill_tokens_left=sum(sequence.prefill_left for sequence in live),
            prefill_tokens_per_s=counters.prefill_rate(),
            queue_wait_s=longest_wait(s.request.arrived for s in live if s.scheduled_at is None),
            leases=len(leases),
            blocks_leased=pool.kept,
            leases_ended=dict(leases.ended),
        )
