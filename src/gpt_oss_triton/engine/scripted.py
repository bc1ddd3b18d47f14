"""An engine that computes nothing: it replays the answers of a script, token by token, as the native engine would
deliver them.

What is learned from it is how tokens are carried, parsed and shown, and how much of that a machine can do; nothing
of a model, nor of the native engine's speed. Sampling options and grammars are accepted and change nothing.

One thread gives every running answer its next tokens when they are due. Callers on other threads only touch the
table of live answers, under one lock.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.answer_progress import AnswerProgress, held_blocks
from gpt_oss_triton.engine.capabilities import SCRIPTED, Capabilities
from gpt_oss_triton.engine.counters import Counters, longest_wait
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    EngineRequest,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.engine.request_check import RequestLimits
from gpt_oss_triton.engine.script import Script
from gpt_oss_triton.engine.script_rule import Answer, scripted_error
from gpt_oss_triton.errors import EngineUnavailable, InternalError
from gpt_oss_triton.harmony.tokens import STOP_IDS
from gpt_oss_triton.options import VOCABULARY
from gpt_oss_triton.wire import RECORDS_FORM, Load, TokenLogprobs

log = logging.getLogger(__name__)

MAX_CONTEXT = 131_072  # tokens; the published checkpoints'
_LAG_S = 1.0  # an answer that is later than this is not hurried to catch up
_JOIN_S = 10.0


class _Replay:
    """One live request. `due` is on the monotonic clock."""

    def __init__(
        self, request: EngineRequest, deliver: Callable[[EngineEvent], None], answer: Answer, limit: int
    ) -> None:
        self.id = request.request_id
        self.deliver = deliver
        self.rule = answer.rule
        self.progress = AnswerProgress(request, limit, STOP_IDS)
        self.cached_tokens = min(answer.rule.cached_tokens, len(request.prompt_token_ids) - 1)
        self.submitted = False  # the engine's thread may work on it
        self.cancelled = False
        self.due = 0.0
        self._tokens = answer.token_ids()
        self._next = next(self._tokens, None)  # an answer has one token at least
        self._chunks = itertools.cycle(answer.rule.chunk)
        self._logprobs = request.options.logprobs

    def next_tokens(self) -> NewTokens:
        """The next chunk, cut where the answer ends; none where the rule fails at once."""
        count = next(self._chunks)
        if self.rule.fail is not None:
            count = min(count, self.rule.fail_after - self.progress.output_tokens)
        taken: list[int] = []
        while len(taken) < count and self.progress.finish_reason is None:
            assert self._next is not None  # or the answer would have ended before
            taken.append(self._next)
            self.progress.take(self._next)
            self._next = next(self._tokens, None)
            if self._next is None and not self.fails_here():
                self.progress.end(self.rule.finish_reason)
        return NewTokens(taken, None if self._logprobs is None else [self._certain(token) for token in taken])

    def fails_here(self) -> bool:
        return self.rule.fail is not None and self.progress.output_tokens >= self.rule.fail_after

    def _certain(self, token: int) -> TokenLogprobs:
        """The script leaves nothing to chance: the token's probability is 1."""
        return TokenLogprobs(0.0, [(token, 0.0)] if self._logprobs else [])


class ScriptedEngine:
    """Implements `protocol.Engine`."""

    def __init__(self, script: Script, settings: EngineSettings) -> None:
        self._script = script
        self._settings = settings
        self._limits = RequestLimits(
            SCRIPTED,
            VOCABULARY,
            settings.max_context or MAX_CONTEXT,
            settings.default_max_tokens,
            settings.max_sequences + settings.max_waiting,
        )
        self._started = time.time()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        # Guarded by _lock, down to _broken.
        self._live: dict[str, _Replay] = {}
        self._waiting: deque[_Replay] = deque()
        self._running: list[_Replay] = []
        self._counters = Counters()
        self._closing = False
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def capabilities(self) -> Capabilities:
        return SCRIPTED

    # ------------------------------------------------------------------------------ any thread

    def submit(self, request: EngineRequest, deliver: Callable[[EngineEvent], None]) -> None:
        limit = self._limits.check(request)
        with self._lock:
            if self._closing or self._broken:
                raise EngineUnavailable(self._broken or "The engine is shutting down.", retry_after_s=5)
            self._limits.check_room(request.request_id, self._live, len(self._live))
            replay = _Replay(request, deliver, self._script.answer(request.prompt_token_ids), limit)
            self._live[replay.id] = replay
        # Before the engine can know of it, so that this is surely the first event.
        deliver(PromptAccepted(replay.progress.prompt_tokens, replay.cached_tokens))
        with self._wake:
            replay.submitted = True
            self._waiting.append(replay)
            self._wake.notify_all()

    def cancel(self, request_id: str) -> bool:
        with self._wake:
            replay = self._live.get(request_id)
            if replay is not None:
                replay.cancelled = True
                self._wake.notify_all()
            return replay is not None

    def tune(self, max_step_tokens: int | None) -> None:
        """No effect: a script has no steps to size."""

    def end_leases(self, ids: list[str]) -> None:
        """No effect: there are none."""

    def load(self, sequence: int = 0) -> Load:
        with self._lock:
            if self._broken:
                raise EngineUnavailable(self._broken)
            return self._load(sequence)

    def close(self, drain_s: float = 0.0) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: not self._live, timeout=drain_s)
            for replay in self._live.values():
                replay.cancelled = True
            self._wake.notify_all()
        self._thread.join(_JOIN_S)

    def _load(self, sequence: int) -> Load:
        settings, counters, size = self._settings, self._counters, self._settings.block_size
        blocks = -(-self._limits.max_context // size)
        waiting = [replay for replay in self._live.values() if replay not in self._running]
        return Load(
            pid=os.getpid(),
            started=self._started,
            sequence=sequence,
            running=len(self._running),
            waiting=len(waiting),
            # As many as could ever be held: nothing is preempted.
            blocks_total=settings.max_sequences * blocks,
            blocks_used=sum(held_blocks(replay.progress, size) for replay in self._running),
            blocks_cached=0,
            block_size=size,
            max_context=self._limits.max_context,
            max_sequences=settings.max_sequences,
            max_waiting=settings.max_waiting,
            steps=counters.steps,
            step_age_s=0.0,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            output_tokens=counters.output_tokens,
            preemptions=0,
            failed_steps=counters.failed_steps,
            output_tokens_per_s=counters.rate(),
            dtype="none",
            device="none",
            checkpoint=self._script.name,
            engine=SCRIPTED.engine,
            profile=settings.profile,
            records_form=RECORDS_FORM,
            max_step_tokens=settings.max_step_tokens,
            configured_step_tokens=settings.max_step_tokens,
            queue_wait_s=longest_wait(replay.progress.arrived for replay in waiting),
        )

    # ------------------------------------------------------------------------ the engine's thread

    def _serve(self) -> None:
        try:
            while self._wait_for_work():
                self._step()
        except Exception as error:  # the thread's end: nobody above could answer the live requests
            log.exception("the engine's loop failed")
            self._break(f"The engine stopped: {type(error).__name__}.")

    def _wait_for_work(self) -> bool:
        """Until something is due; False when there will be nothing any more."""
        with self._wake:
            while not self._has_work():
                if self._closing and not self._live:
                    return False
                due = min((replay.due for replay in self._running), default=None)
                self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
            return True

    def _has_work(self) -> bool:
        if any(replay.cancelled and replay.submitted for replay in self._live.values()):
            return True
        if self._waiting and len(self._running) < self._settings.max_sequences:
            return True
        now = time.monotonic()
        return any(replay.due <= now for replay in self._running)

    def _step(self) -> None:
        """End what was cancelled, admit what waits, and give each running answer what is due."""
        began = time.monotonic()
        with self._lock:
            cancelled = [replay for replay in self._live.values() if replay.cancelled and replay.submitted]
        for replay in cancelled:
            replay.progress.finish_reason = "cancelled"
            self._end(replay, self._finished(replay))
        with self._lock:
            self._admit(began)
            due = [replay for replay in self._running if replay.due <= began]
            rate = self._script.options.tokens_per_s
            token_s = len(self._running) / rate if rate else 0.0
        produced = sum(self._advance(replay, token_s, began) for replay in due)
        with self._lock:
            self._counters.count_step(
                output_tokens=produced, prompt_tokens=0, seconds=time.monotonic() - began
            )

    def _admit(self, now: float) -> None:
        """Let the first in line run, as far as there is room. Under the lock."""
        while self._waiting and len(self._running) < self._settings.max_sequences:
            replay = self._waiting.popleft()
            replay.progress.scheduled_at = time.time()
            replay.progress.cached_tokens = replay.cached_tokens
            replay.due = now + replay.rule.first_token_s
            self._running.append(replay)

    def _advance(self, replay: _Replay, token_s: float, now: float) -> int:
        """Deliver an answer's next tokens, and its end if it has come; returns their number.

        `token_s`: what each token must take for the script's rate to hold."""
        progress, rule = replay.progress, replay.rule
        try:
            new = replay.next_tokens()
        except Exception:  # the caller's stop_text is foreign code: its request fails, no other
            log.exception("a token could not be taken")
            self._end(replay, SequenceFailed(InternalError("The engine failed on this request.")))
            return 0
        count = len(new.token_ids)
        if count:
            if progress.output_tokens == count:
                with self._lock:
                    self._counters.count_prompt(progress.prompt_tokens, progress.cached_tokens)
            replay.deliver(new)
        if progress.finish_reason is not None:
            self._end(replay, self._finished(replay))
        elif rule.fail is not None and replay.fails_here():
            self._end(replay, SequenceFailed(scripted_error(rule.fail)))
        else:
            replay.due = max(replay.due, now - _LAG_S) + count * max(rule.token_s, token_s)
        return count

    def _finished(self, replay: _Replay) -> SequenceFinished:
        return replay.progress.finished(held_blocks(replay.progress, self._settings.block_size))

    def _end(self, replay: _Replay, terminal: SequenceFinished | SequenceFailed) -> None:
        """Forget an answer and deliver its terminal event."""
        with self._wake:
            del self._live[replay.id]
            for place in (self._running, self._waiting):
                if replay in place:
                    place.remove(replay)
            self._wake.notify_all()
        replay.deliver(terminal)

    def _break(self, reason: str) -> None:
        """Nothing can run any more: end every request and refuse new ones."""
        with self._lock:
            self._broken = reason
            live = list(self._live.values())
        for replay in live:
            self._end(replay, SequenceFailed(EngineUnavailable(reason, retry_after_s=5)))
