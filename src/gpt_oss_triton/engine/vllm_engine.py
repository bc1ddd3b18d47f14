"""vLLM's `AsyncLLM` behind this project's seam.

vLLM computes in processes of its own and is spoken to on an event loop, which has a thread here: the engine's
thread. Each request is one task on it, and whatever becomes of the task, its end is the request's end. Callers on
other threads only touch the table of live requests, under one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vllm import TokensPrompt
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.answer_progress import AnswerProgress, held_blocks
from gpt_oss_triton.engine.capabilities import VLLM, Capabilities
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    EngineRequest,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.engine.request_check import RequestLimits
from gpt_oss_triton.engine.vllm_arguments import engine_arguments, sampling_parameters
from gpt_oss_triton.engine.vllm_load import VllmLoad
from gpt_oss_triton.errors import (
    ConfigurationError,
    EngineUnavailable,
    InternalError,
    UnsupportedParameter,
)
from gpt_oss_triton.wire import Load

log = logging.getLogger(__name__)

_CLOSE_S = 10.0  # for the tasks that are cancelled, and for the loop
_DEAD = "vLLM's engine died."


class _Answer:
    """One live request."""

    def __init__(
        self, request: EngineRequest, deliver: Callable[[EngineEvent], None], progress: AnswerProgress
    ) -> None:
        self.request = request
        self.deliver = deliver
        self.progress = progress
        self.preemptions = 0
        self.cancelled = False
        self.task: asyncio.Task[None] | None = None  # belongs to the engine's thread


class VllmEngine:
    """Implements `protocol.Engine`."""

    def __init__(self, settings: EngineSettings, checkpoint: Path, gpus: int) -> None:
        """
        Raises:
            ConfigurationError: vLLM does not start with these.
        """
        self._config = ModelConfig.from_checkpoint(checkpoint)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._live: dict[str, _Answer] = {}  # guarded by _lock, as is _closing
        self._closing = False
        self._names = itertools.count()  # vLLM may still know an id when it comes again
        self._load = VllmLoad(settings, checkpoint.name, self._lock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        try:
            self._llm = self._on_loop(self._start(settings, checkpoint, gpus))
        except (RuntimeError, ValueError, OSError) as error:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise ConfigurationError(f"vLLM does not start: {error}") from error
        self._load.describe(self._llm.vllm_config)
        self._limits = RequestLimits(
            VLLM,
            vocabulary=self._config.vocabulary,
            max_context=self._load.max_context,
            default_max_tokens=settings.default_max_tokens,
            max_live=settings.max_sequences + settings.max_waiting,
        )

    @classmethod
    def from_settings(cls, settings: EngineSettings, checkpoint: Path) -> VllmEngine:
        """Load `checkpoint` and start. Raises as `__init__`."""
        import torch

        return cls(settings, checkpoint, torch.cuda.device_count())

    @property
    def capabilities(self) -> Capabilities:
        return VLLM

    # ------------------------------------------------------------------------------ any thread

    def submit(self, request: EngineRequest, deliver: Callable[[EngineEvent], None]) -> None:
        limit = self._limits.check(request)
        answer = _Answer(request, deliver, AnswerProgress(request, limit, self._config.eos_token_ids))
        with self._lock:
            if self._closing or self._llm.errored:
                raise EngineUnavailable(
                    _DEAD if self._llm.errored else "The engine is shutting down.", retry_after_s=5
                )
            self._limits.check_room(request.request_id, self._live, len(self._live))
            self._live[request.request_id] = answer
        # What the prefix cache holds vLLM tells with the first token.
        deliver(PromptAccepted(answer.progress.prompt_tokens, 0))
        self._loop.call_soon_threadsafe(self._begin, answer, limit)

    def cancel(self, request_id: str) -> bool:
        with self._lock:
            answer = self._live.get(request_id)
            if answer is None:
                return False
            answer.cancelled = True
        self._loop.call_soon_threadsafe(_cancel, answer)
        return True

    def tune(self, max_step_tokens: int | None) -> None:
        """
        Raises:
            UnsupportedParameter: vLLM's step size is set at its start.
        """
        raise UnsupportedParameter(
            "The vllm engine's step size cannot be changed while it runs.", param="max_step_tokens"
        )

    def end_leases(self, ids: list[str]) -> None:
        """No effect: there are none."""

    def load(self, sequence: int = 0) -> Load:
        if self._llm.errored:
            raise EngineUnavailable(_DEAD)
        with self._lock:
            return self._load.report(sequence, [answer.progress for answer in self._live.values()])

    def close(self, drain_s: float = 0.0) -> None:
        with self._wake:
            self._closing = True
            self._wake.wait_for(lambda: not self._live, timeout=drain_s)
            left = list(self._live)
        for request_id in left:
            self.cancel(request_id)
        with self._wake:
            self._wake.wait_for(lambda: not self._live, timeout=_CLOSE_S)
            left_over = list(self._live.values())
        for answer in left_over:
            self._end(answer, SequenceFailed(EngineUnavailable("The engine did not stop in time.")))
        if self._thread.is_alive():
            self._on_loop(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)

    def _on_loop(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # ------------------------------------------------------------------------ the engine's thread

    async def _start(self, settings: EngineSettings, checkpoint: Path, gpus: int) -> AsyncLLM:
        arguments = engine_arguments(settings, checkpoint, gpus)
        return AsyncLLM.from_engine_args(arguments, stat_loggers=[self._load.logger])

    async def _stop(self) -> None:
        self._llm.shutdown()

    def _begin(self, answer: _Answer, limit: int) -> None:
        answer.task = self._loop.create_task(self._generate(answer, limit))
        # Not in the task itself: one that is cancelled early never runs.
        answer.task.add_done_callback(lambda task: self._ended(answer, task))
        if answer.cancelled:
            answer.task.cancel()

    def _ended(self, answer: _Answer, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            answer.progress.end("cancelled")
            error = None
        else:
            error = task.exception()
        if isinstance(error, EngineDeadError):
            self._end(answer, SequenceFailed(EngineUnavailable(_DEAD, retry_after_s=5)))
        elif error is not None or answer.progress.finish_reason is None:
            log.error("a request failed", exc_info=error)
            self._end(answer, SequenceFailed(InternalError("The engine failed on this request.")))
        else:
            self._end(answer, self._finished(answer))

    async def _generate(self, answer: _Answer, limit: int) -> None:
        """Deliver tokens until the answer is over. Leaving early aborts it in vLLM."""
        request, progress = answer.request, answer.progress
        prompt = TokensPrompt(prompt_token_ids=request.prompt_token_ids)
        if request.options.cache_salt:
            prompt["cache_salt"] = request.options.cache_salt
        parameters = sampling_parameters(request.options, limit, progress.stop_ids)
        outputs = self._llm.generate(prompt, parameters, f"{next(self._names)}")
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                self._take(answer, output)
                if progress.finish_reason is not None:
                    return

    def _take(self, answer: _Answer, output: Any) -> None:
        progress, (choice,) = answer.progress, output.outputs
        if progress.scheduled_at is None and choice.token_ids:
            progress.scheduled_at = _scheduled(output.metrics, answer.request.arrived)
            progress.cached_tokens = output.num_cached_tokens or 0
            with self._lock:
                self._load.counters.count_prompt(progress.prompt_tokens, progress.cached_tokens)
        if output.metrics is not None:
            answer.preemptions = output.metrics.num_preemptions
        taken: list[int] = []
        for token in choice.token_ids:
            taken.append(token)
            progress.take(token)
            if progress.finish_reason is not None:
                break
        if taken:
            answer.deliver(NewTokens(taken))

    def _finished(self, answer: _Answer) -> SequenceFinished:
        return answer.progress.finished(
            held_blocks(answer.progress, self._load.block_size), preemptions=answer.preemptions
        )

    def _end(self, answer: _Answer, terminal: SequenceFinished | SequenceFailed) -> None:
        """Forget a request and deliver its terminal event, unless it has ended before."""
        with self._wake:
            if self._live.get(answer.request.request_id) is not answer:
                return
            del self._live[answer.request.request_id]
            self._load.preemptions += answer.preemptions
            self._wake.notify_all()
        answer.deliver(terminal)


def _cancel(answer: _Answer) -> None:
    if answer.task is not None:  # else it is cancelled as it begins
        answer.task.cancel()


def _scheduled(metrics: Any, arrived: float) -> float:
    """Unix seconds. vLLM's clock is the monotonic one, which the processes of a machine share."""
    now = time.time()
    if metrics is None or not metrics.scheduled_ts:
        return now
    ago = time.monotonic() - float(metrics.scheduled_ts)
    return max(arrived, now - max(0.0, ago))
