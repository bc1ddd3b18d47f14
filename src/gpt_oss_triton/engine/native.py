"""The engine of this project: one thread that schedules, runs, samples and delivers.

What callers on other threads change, it changes under the one lock: the inbox, the live sequences, the scheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.cache_size import longest
from gpt_oss_triton.engine.capabilities import NATIVE, Capabilities
from gpt_oss_triton.engine.counters import Counters
from gpt_oss_triton.engine.grammar import Grammars
from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.engine.leases import Leases
from gpt_oss_triton.engine.load_report import LoadReport
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.prompt_pace import PromptPace
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    EngineRequest,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.engine.request_check import RequestLimits
from gpt_oss_triton.engine.runner import Flight, Runner
from gpt_oss_triton.engine.sampler import Outcome, RowSampling, Sampled
from gpt_oss_triton.engine.scheduler import Chunk, Scheduler
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.errors import (
    EngineUnavailable,
    InternalError,
    ServiceError,
)
from gpt_oss_triton.machine import available_cores
from gpt_oss_triton.wire import Load

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 10.0  # for the step that runs when the engine closes


class NativeEngine:
    """Implements `protocol.Engine` for one gpt-oss checkpoint."""

    def __init__(self, runner: Runner, settings: EngineSettings, checkpoint: str) -> None:
        self._runner = runner
        self._threads = settings.threads or available_cores()
        # Nothing is gained on a CPU, and several ranks are told their tokens by the host.
        self._overlaps = settings.overlap == "on" or (
            settings.overlap == "auto" and runner.device.type == "cuda"
        )
        if runner.plan.mode != "single" and settings.overlap == "on":
            log.warning("overlap is on, but several ranks run their steps in turn")
        self._overlaps &= runner.plan.mode == "single"
        pool = BlockPool(runner.blocks, runner.block_size, keep_prefixes=settings.prefix_cache)
        self._scheduler = Scheduler(
            pool,
            Leases(pool, settings.session_watermark),
            window=runner.config.sliding_window,
            max_sequences=settings.max_sequences,
            max_step_tokens=settings.max_step_tokens,
            pace=PromptPace(settings.decode_stretch),
            # A GPU replays graphs of whole decode steps, and pieces of a pipeline's steps end anywhere.
            speculates=settings.speculation == "auto"
            and runner.device.type == "cpu"
            and runner.plan.mode == "single"
            and not self._overlaps,
        )
        # A context that the cache cannot hold could never finish, so the smaller of the two is the limit.
        max_context = min(
            longest(settings, runner.config),
            self._scheduler.tables.shape.most_tokens(runner.blocks),
        )
        self._limits = RequestLimits(
            NATIVE,
            vocabulary=runner.config.vocabulary,
            max_context=max_context,
            default_max_tokens=settings.default_max_tokens,
            max_live=settings.max_sequences + settings.max_waiting,
        )
        self._grammars = Grammars(runner.config.vocabulary, runner.config.eos_token_ids)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._inbox: deque[Sequence] = deque()
        self._cancelled: list[Sequence] = []
        self._live: dict[str, Sequence] = {}
        self._closing = False
        self._broken: str | None = None
        self._counters = Counters()
        self._report = LoadReport(runner, settings, checkpoint, max_context)
        self._step_began: float | None = None
        self._landed = 0.0  # when the last step's end was seen, monotonic seconds
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    def from_settings(cls, settings: EngineSettings, checkpoint: Path) -> NativeEngine:
        """Load `checkpoint` and start.

        Raises:
            ConfigurationError: the checkpoint or the settings cannot be served.
        """
        config = ModelConfig.from_checkpoint(checkpoint)
        Grammars.prepare(config.vocabulary, config.eos_token_ids)  # while the weights load
        return cls(Runner.from_checkpoint(checkpoint, settings), settings, checkpoint.name)

    @property
    def capabilities(self) -> Capabilities:
        return NATIVE

    # ------------------------------------------------------------------------------ any thread

    def submit(self, request: EngineRequest, deliver: Callable[[EngineEvent], None]) -> None:
        limit = self._limits.check(request)
        with self._lock:
            self._check_open(request.request_id)
        sequence = Sequence(
            request,
            deliver,
            limit=limit,
            eos_token_ids=self._runner.config.eos_token_ids,
            sampling=self._sampling(request),
            block_size=self._runner.block_size,
        )
        with self._lock:
            self._check_open(request.request_id)
            self._live[request.request_id] = sequence
            sequence.found_tokens = self._scheduler.found_tokens(sequence)
        # Before the engine can know of it, so that this is surely the first event.
        deliver(PromptAccepted(sequence.prompt_tokens, sequence.found_tokens))
        with self._wake:
            sequence.submitted = True
            self._inbox.append(sequence)
            self._wake.notify()

    def _sampling(self, request: EngineRequest) -> RowSampling:
        grammar = request.options.grammar
        return RowSampling(
            request.options,
            request.prompt_token_ids,
            self._runner.config.vocabulary,
            self._runner.device,
            None if grammar is None else self._grammars.matcher(grammar),
        )

    def cancel(self, request_id: str) -> bool:
        with self._wake:
            sequence = self._live.get(request_id)
            if sequence is None:
                return False
            self._cancelled.append(sequence)
            return True

    def tune(self, max_step_tokens: int | None) -> None:
        with self._lock:
            self._scheduler.tune(max_step_tokens)

    def end_leases(self, ids: list[str]) -> None:
        with self._lock:
            self._scheduler.leases.end(ids)

    def load(self, sequence: int = 0) -> Load:
        with self._lock:
            if self._broken:
                raise EngineUnavailable(self._broken)
            return self._report.make(
                sequence, self._scheduler, self._counters, self._live.values(), self._step_began
            )

    def close(self, drain_s: float = 0.0) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
            self._wake.wait_for(lambda: not self._live, timeout=drain_s)
            self._cancelled.extend(self._live.values())
        self._thread.join(timeout=CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self._break("The engine did not finish its last step in time.")
        self._runner.close()

    def _check_open(self, request_id: str) -> None:
        """Refuse what cannot be taken now. Under the lock."""
        if self._broken or self._closing:
            raise EngineUnavailable(self._broken or "The engine is shutting down.", retry_after_s=5)
        self._limits.check_room(request_id, self._live, len(self._live))

    # ------------------------------------------------------------------------ the engine's thread

    def _serve(self) -> None:
        # OpenMP keeps the number of threads per calling thread, so it must be set on this one as well.
        torch.set_num_threads(self._threads)
        flying: Flight | None = None
        try:
            while flying is not None or self._wait_for_work():
                self._admit_and_cancel()
                flying = self._step(flying)
        except BaseException as error:  # the thread's end: nobody above could answer the live requests
            log.exception("the engine's loop failed")
            self._break(f"The engine stopped: {type(error).__name__}.")

    def _wait_for_work(self) -> bool:
        leases = self._scheduler.leases
        with self._wake:
            while not self._wake.wait_for(self._has_work, timeout=leases.due_in()):
                leases.sweep()
            return bool(self._live) and self._broken is None

    def _has_work(self) -> bool:
        return self._closing or any(sequence.submitted for sequence in self._live.values())

    def _admit_and_cancel(self) -> None:
        with self._lock:
            self._scheduler.leases.sweep()
            # One that was ended before it got here is live no more.
            for sequence in filter(self._is_live, self._inbox):
                self._scheduler.add(sequence)
            self._inbox.clear()
            # One whose submission is not finished is cancelled when it is: its first event comes from there.
            cancelled = [sequence for sequence in self._cancelled if sequence.submitted]
            self._cancelled = [sequence for sequence in self._cancelled if not sequence.submitted]
        for sequence in cancelled:
            if sequence.finish_reason is None:
                sequence.finish_reason = "cancelled"
                self._end(sequence, sequence.finished(sequence.blocks_held, sequence.preemptions))

    def _step(self, flying: Flight | None) -> Flight | None:
        """Launch the next step, then deliver what the last one sampled: the device computes meanwhile. What the next one
        cannot sample before that is known, it samples after it.

        Returns:
            What flies now. Always None where steps do not overlap: then this delivers the step that it launched.
        """
        with self._lock:
            chunks = self._scheduler.schedule(flying=flying is not None)
        launched = self._launch(chunks, flying) if chunks else None
        if flying is not None:
            self._land(flying)
        if launched is not None and launched.sampled is None:
            launched = self._sample(launched) if self._broken is None else None
        if launched is None:
            self._one_by_one(chunks)
        elif not self._overlaps:
            self._land(launched)
            launched = None
        self._step_began = None if launched is None else launched.began
        return launched

    def _one_by_one(self, chunks: list[Chunk]) -> None:
        """Repeat a step that failed sequence by sequence, so that only those fail which must."""
        for chunk in filter(lambda chunk: self._is_live(chunk.sequence), chunks):
            launched = self._launch([chunk]) if len(chunks) > 1 and self._broken is None else None
            if launched is not None:
                self._land(launched)
            else:
                self._fail(chunk.sequence, InternalError("The engine failed on this request."))

    def _launch(self, chunks: list[Chunk], flying: Flight | None = None) -> Flight | None:
        """None when the step failed. Its tensors are gone when this returns, with its traceback: what ran out of memory
        may fit when it is repeated in parts."""
        self._step_began = self._step_began or time.monotonic()
        launched = self._try(partial(self._runner.launch, chunks, flying), len(chunks))
        if launched is not None:
            with self._lock:
                self._scheduler.launched(chunks)
        return launched

    def _sample(self, flight: Flight) -> Flight | None:
        """None when that failed; then the step is as if it had never been launched."""
        sampled = self._try(partial(self._runner.sample, flight), len(flight.chunks))
        if sampled is None:
            with self._lock:
                self._scheduler.landed(flight.chunks)
        return sampled

    def _try(self, work: Callable[[], Flight], sequences: int) -> Flight | None:
        """What `work` returns; None when it failed, which is counted, and may have broken the engine."""
        try:
            return work()
        except torch.AcceleratorError as error:
            self._break_device(error)
        except Exception:  # whatever torch raises: the other sequences must go on
            log.exception("a step of %d sequences failed", sequences)
        with self._lock:
            self._counters.failed_steps += 1
        return None

    def _land(self, flight: Flight) -> None:
        """Wait for a step's end and deliver what it sampled."""
        try:
            outcomes = flight.outcomes()
        except torch.AcceleratorError as error:
            self._break_device(error)
            return
        if self._runner.lost is not None:  # an exchange that was given up leaves numbers behind, too
            self._break(self._runner.lost)
            return
        now = time.monotonic()
        seconds = now - max(flight.began, self._landed)  # it may have waited for the step before
        self._landed = now
        with self._lock:
            self._scheduler.landed(flight.chunks)
        self._deliver(flight.chunks, outcomes, seconds)

    def _deliver(self, chunks: list[Chunk], outcomes: list[Outcome], seconds: float) -> None:
        """Account for a computed step and hand out what it produced."""
        sampling = (chunk for chunk in chunks if chunk.samples)
        produced = [
            (chunk, self._take(chunk.sequence, outcome))
            for chunk, outcome in zip(sampling, outcomes, strict=True)
            if self._is_live(chunk.sequence)
        ]
        with self._lock:
            self._account(chunks, produced, seconds)
        for chunk, outcome in produced:
            if outcome is None:
                error = InternalError("The model computed no numbers for this request.")
                self._fail(chunk.sequence, error, forget=True)
            elif isinstance(outcome, ServiceError):
                self._fail(chunk.sequence, outcome)
            else:
                self._hand_out(chunk.sequence, outcome)

    def _take(self, sequence: Sequence, outcome: Outcome) -> Outcome:
        """Give the sequence its new tokens, up to its end; what it took, or why it cannot go on."""
        if not isinstance(outcome, list):
            return outcome
        taken = []
        try:
            for sampled in outcome:
                sequence.append(sampled.token)
                taken.append(sampled)
                if sequence.finish_reason is not None:
                    break
        except Exception:  # the caller's stop_text is foreign code: its request fails, no other
            log.exception("a token could not be taken")
            return InternalError("The engine failed on this request.")
        return taken

    def _account(self, chunks: list[Chunk], produced: list[tuple[Chunk, Outcome]], seconds: float) -> None:
        """Count the step and commit what is sound of it. Under the lock."""
        output_tokens = 0
        for chunk, taken in produced:
            if isinstance(taken, list):
                output_tokens += len(taken)
                if chunk.sequence.output_tokens == len(taken):
                    self._counters.count_prompt(chunk.sequence.prompt_tokens, chunk.sequence.cached_tokens)
                if chunk.draft and chunk.sequence.sampling.matcher is None:  # what is forced is no guess
                    chunk.sequence.lookup.judge(len(chunk.draft), len(taken) - 1)
                    self._counters.count_draft(len(chunk.draft), len(taken) - 1)
        self._counters.count_step(
            output_tokens=output_tokens,
            prompt_tokens=sum(chunk.prompt_tokens for chunk in chunks),
            seconds=seconds,
        )
        unsound = {id(chunk) for chunk, outcome in produced if outcome is None}
        sound = [c for c in chunks if self._is_live(c.sequence) and id(c) not in unsound]
        self._scheduler.commit(sound, seconds)

    def _hand_out(self, sequence: Sequence, taken: list[Sampled]) -> None:
        if not self._is_live(sequence):
            return
        for sampled in taken:
            logprobs = None if sampled.logprobs is None else [sampled.logprobs]
            sequence.deliver(NewTokens([sampled.token], logprobs))
        if sequence.finish_reason is not None:
            # What a step launched since takes for a token more is not the sequence's.
            held = self._scheduler.tables.shape.held(len(sequence.token_ids) - 1)
            self._end(sequence, sequence.finished(held, sequence.preemptions))

    def _fail(self, sequence: Sequence, error: ServiceError, *, forget: bool = False) -> None:
        """`forget`: nobody else may use what its blocks hold."""
        if forget:
            with self._lock:
                self._scheduler.disown(sequence)
        self._end(sequence, SequenceFailed(error))

    def _end(self, sequence: Sequence, terminal: SequenceFinished | SequenceFailed) -> None:
        """Free what a sequence holds and deliver its terminal event, unless it has ended before."""
        with self._wake:
            if not self._is_live(sequence):
                return
            self._scheduler.remove(sequence)
            del self._live[sequence.request.request_id]
            self._wake.notify_all()
        sequence.deliver(terminal)

    def _is_live(self, sequence: Sequence) -> bool:
        return self._live.get(sequence.request.request_id) is sequence

    def _break_device(self, error: torch.AcceleratorError) -> None:
        log.error("the device failed", exc_info=error)
        self._break(f"The device failed: {str(error).splitlines()[0]}")

    def _break(self, reason: str) -> None:
        """Nothing can run any more: end every request and refuse new ones."""
        with self._lock:
            self._broken = self._broken or reason
            live = list(self._live.values())
        for sequence in live:
            self._fail(sequence, EngineUnavailable(reason, retry_after_s=5))
