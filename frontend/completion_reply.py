"""The bytes of OpenAI's text completion objects: chunks as server-sent events, and the whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from frontend.chat_reply import event, text_usage
from frontend.completion_text import LegacyLogprobs, TextDelta
from gpt_oss_triton.telemetry.token_counts import TokenCounts


@dataclass(slots=True)
class Choice:
    """One answer, gathered."""

    text: str = ""
    logprobs: LegacyLogprobs | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None

    def add(self, delta: TextDelta) -> None:
        self.text += delta.text
        if delta.logprobs is not None:
            if self.logprobs is None:
                self.logprobs = LegacyLogprobs()
            self.logprobs.extend(delta.logprobs)

    def record(self, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "text": self.text,
            "index": index,
            "logprobs": None if self.logprobs is None else asdict(self.logprobs),
            "finish_reason": self.finish_reason,
        }
        if self.token_ids is not None:
            choice["token_ids"] = self.token_ids
        return choice


class CompletionReply:
    """Encodes one reply.

    Args:
        completion_id: `cmpl-…`.
        created: Unix seconds.
    """

    def __init__(self, *, completion_id: str, created: int, model: str, system_fingerprint: str) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id,
            "object": "text_completion",
            "created": created,
            "model": model,
            "system_fingerprint": system_fingerprint,
        }

    def chunk(self, index: int, choice: Choice) -> bytes:
        """What is new of one choice. Unlike a chat's chunks it has no `usage: null`, which the schema does not allow."""
        return event({**self._head, "choices": [choice.record(index)]})

    def usage(self, usage: TokenCounts) -> bytes:
        """The chunk after the end, for those who asked for it."""
        return event({**self._head, "choices": [], "usage": text_usage(usage)})

    def whole(self, choices: list[Choice], usage: TokenCounts) -> bytes:
        """The unstreamed reply."""
        records = [choice.record(index) for index, choice in enumerate(choices)]
        return msgspec.json.encode({**self._head, "choices": records, "usage": text_usage(usage)})
