"""How far one answer has come, whatever engine its tokens are from."""

from __future__ import annotations

import time

from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.engine.protocol import EngineRequest, SequenceFinished
from gpt_oss_triton.wire import FinishReason, Timings


class AnswerProgress:
    """Attributes:
    arrived: Unix seconds.
    limit: output tokens at most.
    stop_ids: tokens that end it, the model's own included.
    output_tokens: taken so far.
    cached_tokens: of the prompt, when it first ran.
    scheduled_at: Unix seconds; None until its engine sets it.
    finish_reason: set once, when the answer is over.
    """

    def __init__(self, request: EngineRequest, limit: int, eos_token_ids: frozenset[int]) -> None:
        self.request = request
        self.limit = limit
        self.prompt_tokens = len(request.prompt_token_ids)
        self.arrived = request.arrived
        self.output_tokens = 0
        self.cached_tokens = 0
        self.scheduled_at: float | None = None
        self.finish_reason: FinishReason | None = None
        self.stop_ids = frozenset(request.options.stop_token_ids)
        if not request.options.ignore_eos:
            self.stop_ids |= eos_token_ids
        self._stop: str | int | None = None
        self._first_token_at: float | None = None

    def take(self, token: int) -> None:
        """Count a new token and decide whether it is the last. Raises what the request's `stop_text` raises."""
        if self._first_token_at is None:
            self._first_token_at = time.time()
        self.output_tokens += 1
        watch = self.request.stop_text
        matched = watch(token) if watch is not None else None
        if token in self.stop_ids:
            self.finish_reason, self._stop = "stop", token
        elif matched is not None:
            self.finish_reason, self._stop = "stop", matched
        elif self.output_tokens >= self.limit:
            self.finish_reason = "length"

    def end(self, reason: FinishReason) -> None:
        """There are no more tokens; nothing changes if the answer has ended already."""
        self.finish_reason = self.finish_reason or reason

    def finished(self, blocks: int, preemptions: int = 0) -> SequenceFinished:
        """The terminal event of an answer whose `finish_reason` is set."""
        assert self.finish_reason is not None
        return SequenceFinished(
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            stop=self._stop,
            preemptions=preemptions,
            blocks=blocks,
            timings=Timings(
                arrived=self.arrived,
                scheduled=self.scheduled_at,
                first_token=self._first_token_at,
                finished=time.time(),
            ),
        )


def held_blocks(progress: AnswerProgress, block_size: int) -> int:
    """KV blocks, each of all layers, that its computed tokens fill; see `SequenceFinished.blocks`."""
    if progress.scheduled_at is None:
        return 0
    return BlockShape(block_size).held(progress.prompt_tokens + max(0, progress.output_tokens - 1))
