"""How many tokens a prompt will have, from its bytes: rendering it here would cost more than it is worth."""

from __future__ import annotations

from frontend.admission.ask import Estimate
from frontend.routing.conversation import schemas
from gpt_oss_triton.wire import Message, PromptRequest

# What harmony puts around the text (measured with `harmony.render`).
_PROMPT_TOKENS = 50
_MESSAGE_TOKENS = 6
_FIRST_RATIO = 0.25  # tokens a byte, before anything was learned; English has 0.2, Chinese 0.3
_FIRST_BYTES = 4_000.0  # what that is worth against what is learned
_MEMORY_BYTES = 200_000.0  # the ratio is that of about so much text


class Estimator:
    """Learns the ratio of one model's tokens to bytes.

    Args:
        output_reserve_tokens: reckoned with for an answer whose limit is higher, or not given.
    """

    def __init__(self, output_reserve_tokens: int) -> None:
        self._reserve = output_reserve_tokens
        self._bytes = _FIRST_BYTES
        self._tokens = _FIRST_BYTES * _FIRST_RATIO

    @property
    def tokens_per_byte(self) -> float:
        return self._tokens / self._bytes

    def estimate(self, prompt: PromptRequest, max_tokens: int | None) -> Estimate:
        text_bytes, frame_tokens = _size(prompt)
        return Estimate(
            prompt_tokens=frame_tokens + round(text_bytes * self.tokens_per_byte),
            output_tokens=min(max_tokens or self._reserve, self._reserve),
            text_bytes=text_bytes,
            frame_tokens=frame_tokens,
        )

    def learn(self, estimate: Estimate, prompt_tokens: int) -> None:
        """`prompt_tokens` is what the prompt really had. A longer prompt says more and counts for more."""
        fade = max(0.0, 1 - estimate.text_bytes / _MEMORY_BYTES)
        self._bytes = self._bytes * fade + estimate.text_bytes
        self._tokens = self._tokens * fade + max(0, prompt_tokens - estimate.frame_tokens)


def _size(prompt: PromptRequest) -> tuple[int, int]:
    """Bytes that become tokens at the ratio, and tokens beside them."""
    if prompt.token_ids is not None:
        return 0, len(prompt.token_ids)
    if prompt.text is not None:
        return len(prompt.text.encode()), 0
    text_bytes = sum(map(_message_bytes, prompt.messages)) + len(schemas(prompt))
    frames = len(prompt.messages) + sum(len(message.tool_calls) for message in prompt.messages)
    return text_bytes, _PROMPT_TOKENS + _MESSAGE_TOKENS * frames


def _message_bytes(message: Message) -> int:
    calls = sum(len(call.name.encode()) + len(call.arguments.encode()) for call in message.tool_calls)
    return len(message.content.encode()) + len((message.reasoning or "").encode()) + calls
