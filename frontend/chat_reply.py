"""The bytes of OpenAI's chat objects: chunks as server-sent events, and the whole completion.

A chunk differs from the one before in its delta alone, so everything else is encoded once per answer.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from frontend.fold import Completion, Ending, Usage
from gpt_oss_triton import __version__
from gpt_oss_triton.harmony.answer import AnswerDelta
from gpt_oss_triton.wire import Load

_to_json = msgspec.json.Encoder().encode
_LINE_ENDS = [(c.encode(), b"\\u%04x" % ord(c)) for c in ("\x85", "\u2028", "\u2029")]

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def _encode(value: Any) -> bytes:
    """JSON in what every client takes for one line: some split at Unicode's line ends, too."""
    data = _to_json(value)
    if not data.isascii():
        for character, escaped in _LINE_ENDS:
            data = data.replace(character, escaped)
    return data


def event(record: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + _encode(record) + b"\n\n"


def fingerprint(load: Load | None) -> str:
    """OpenAI's `system_fingerprint`: changes when the same request may get another answer."""
    backend = (load.checkpoint, load.dtype, load.device) if load is not None else ()
    return "fp_" + hashlib.sha256(repr((__version__, backend)).encode()).hexdigest()[:10]


class ChatReply:
    """Encodes the parts of one answer.

    Args:
        completion_id: `chatcmpl-…`.
        created: Unix seconds.
        include_usage: every chunk gets `usage: null`, and `usage` a chunk of its own at the end.
    """

    def __init__(
        self, *, completion_id: str, created: int, model: str, system_fingerprint: str, include_usage: bool
    ) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": system_fingerprint,
        }
        opening = _encode(self._head)[:-1] + b',"choices":[{"index":0,"delta":{'
        tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._opening = b"data: " + opening
        self._going_on = b'},"logprobs":null,"finish_reason":null}]' + tail
        self._ending = b'},"logprobs":null,"finish_reason":"%b"%b}]' + tail

    def role(self) -> bytes:
        """The first chunk."""
        return self._opening + b'"role":"assistant","content":""' + self._going_on

    def delta(self, delta: AnswerDelta) -> bytes:
        key = b'"reasoning":' if delta.kind == "reasoning" else b'"content":'
        return self._opening + key + _encode(delta.text) + self._going_on

    def end(self, ending: Ending) -> bytes:
        token_ids = b"" if ending.token_ids is None else b',"token_ids":' + _encode(ending.token_ids)
        return self._opening + self._ending % (ending.finish_reason.encode(), token_ids)

    def usage(self, ending: Ending) -> bytes:
        """The chunk after the end, for those who asked for it."""
        return event({**self._head, "choices": [], "usage": _usage(ending.usage)})

    def completion(self, completion: Completion, ending: Ending) -> bytes:
        """The unstreamed reply."""
        message = {
            "role": "assistant",
            "content": "".join(completion.content),
            "reasoning": "".join(completion.reasoning) or None,
            "refusal": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": ending.finish_reason,
        }
        if ending.token_ids is not None:
            choice["token_ids"] = ending.token_ids
        head = {**self._head, "object": "chat.completion"}
        return _encode({**head, "choices": [choice], "usage": _usage(ending.usage)})


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
