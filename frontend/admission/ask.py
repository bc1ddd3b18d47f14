"""What admission and routing know of one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from frontend.caller import Caller
from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.config import Priority
from gpt_oss_triton.telemetry.record import RequestRecord

if TYPE_CHECKING:
    from frontend.admission.key_limits import Charge
    from frontend.admission.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request will take.

    Attributes:
        prompt_tokens: predicted; exact in the estimate of a reservation whose request was accepted.
        output_tokens: reserved for the answer, which may get longer than that.
        text_bytes: what the prediction was made from,
        frame_tokens: and how many tokens around the text it reckons with.
    """

    prompt_tokens: int
    output_tokens: int
    text_bytes: int = 0
    frame_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def blocks(self, shape: BlockShape, cached_tokens: int = 0) -> int:
        """KV blocks that the request holds at its end, beside those that hold `cached_tokens` already. What is
        sampled last is never computed."""
        return shape.held(max(0, self.tokens - 1), cached_tokens)


@dataclass(slots=True)
class Ask:
    """One answer, from its request's arrival to its end.

    Attributes:
        ensemble: what should run it.
        prefix: (hash, tokens up to there) of the conversation's beginnings, shortest first.
        session: opaque id.
        booking: hash of caller and body, by which the request is known when it comes back.
        deadline: seconds on the monotonic clock.
        excluded: targets that have failed it.
        charge: what its caller's limits were charged with; None before it was let in and after it was settled.
        first: of a request for several answers the first one's, with which the request is let in or refused; None for
            itself.
        same_prompt: another answer to the prompt of an ask before it, which pays for it.
        refusal: why it was not let in.
    """

    ensemble: str
    caller: Caller
    priority: Priority
    estimate: Estimate
    prefix: list[tuple[int, int]]
    session: str | None
    booking: bytes
    deadline: float
    record: RequestRecord
    excluded: set[str] = field(default_factory=set)
    charge: Charge | None = None
    first: Ask | None = None
    same_prompt: bool = False
    refusal: Refusal | None = None
