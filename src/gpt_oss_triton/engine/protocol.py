"""The seam between whatever computes tokens and whatever carries them.

An engine knows token ids. It knows nothing of messages, harmony, Triton or HTTP: the caller hands it a
prompt as ids and, where a stop string has to be found in text, a function that watches the ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gpt_oss_triton.engine.capabilities import Capabilities
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.wire import FinishReason, GenerationOptions, Load, Timings, TokenLogprobs


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One sequence to generate.

    Attributes:
        request_id: unique among live requests.
        prompt_token_ids: at least one id, each in [0, vocabulary).
        options: checked by `options.check_options`.
        stop_text: called once for every new token, in order, on the engine's thread; returns the stop
            string which that token completed, or None. It must be cheap and must not raise.
        arrived: Unix seconds.
    """

    request_id: str
    prompt_token_ids: list[int]
    options: GenerationOptions
    stop_text: Callable[[int], str | None] | None = None
    arrived: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class PromptAccepted:
    """The request is in the queue and will run."""

    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class NewTokens:
    """
    Attributes:
        logprobs: one entry for each token, for a request that asked for them.
    """

    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None


@dataclass(frozen=True, slots=True)
class SequenceFinished:
    """Terminal. The token that ended the sequence (EOS, a stop id, the one that completed a stop string)
    has been delivered before and is counted in `completion_tokens`.

    Attributes:
        blocks: KV blocks held at the end, shared ones included. The last token sampled is never computed, so
            after n output tokens that is `BlockShape.held(prompt_tokens + n - 1)`. A sequence that was cancelled in
            its prompt held full blocks for all of it, and 0 one that was cancelled while it waited.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    stop: str | int | None
    preemptions: int
    blocks: int
    timings: Timings


@dataclass(frozen=True, slots=True)
class SequenceFailed:
    """Terminal: the engine could not go on with this sequence."""

    error: ServiceError


EngineEvent = PromptAccepted | NewTokens | SequenceFinished | SequenceFailed


class Engine(Protocol):
    """Thread-safe. Every accepted request ends in exactly one terminal event, whatever happens."""

    @property
    def capabilities(self) -> Capabilities:
        """What it serves; requests for the rest are refused."""

    def submit(self, request: EngineRequest, deliver: Callable[[EngineEvent], None]) -> None:
        """Check and enqueue; return at once.

        `deliver` must neither block nor raise. It is called in order: `PromptAccepted` before this returns,
        everything else on the engine's thread.

        Raises:
            InvalidRequest: cannot ever run (bad options, bad ids, too long for the context or the cache).
            UnsupportedParameter: asks for what `capabilities` lack.
            Overloaded: the queue is full.
            EngineUnavailable: closed or closing.
        """

    def cancel(self, request_id: str) -> bool:
        """End one request with finish reason `cancelled`; False when no such request is live.

        Its blocks are free within one step."""

    def tune(self, max_step_tokens: int | None) -> None:
        """Set how many tokens one step computes; None: as configured, which is also the most. The least is
        what the running sequences need."""

    def end_leases(self, ids: list[str]) -> None:
        """Give up the claims of these sessions; ids without one are passed over."""

    def load(self, sequence: int = 0) -> Load:
        """A consistent snapshot; cheap enough for several calls a second.

        Raises:
            EngineUnavailable: the engine broke and will not run again.
        """

    def close(self, drain_s: float = 0.0) -> None:
        """Refuse new requests, give the live ones `drain_s` seconds, then end them as `cancelled`; those that
        a hanging step holds fail."""
