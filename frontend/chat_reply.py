"""The bytes of OpenAI's chat objects: chunks as server-sent events, and the whole completion.

A chunk differs from the one before in its delta alone, so everything else is encoded once per answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from frontend.call_ids import call_id
from frontend.content_scores import LEAST_LOGPROB, ScoredDelta, TokenScore
from frontend.fold import Completion, Ending, Part
from gpt_oss_triton import __version__
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.answer import AnswerDelta
from gpt_oss_triton.telemetry.token_counts import TokenCounts
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
    """Encodes the answers to one request.

    Args:
        completion_id: `chatcmpl-…`.
        created: Unix seconds.
        include_usage: every chunk gets `usage: null`, and `usage` a chunk of its own at the end.
        reasoning_names: the fields that carry the reasoning; clients disagree about its name.
    """

    def __init__(
        self,
        *,
        completion_id: str,
        created: int,
        model: str,
        system_fingerprint: str,
        include_usage: bool,
        reasoning_names: Sequence[str] = ("reasoning",),
    ) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": system_fingerprint,
        }
        self._completion_id = completion_id
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._reasoning_names = tuple(reasoning_names)

    def choice(self, index: int) -> ChoiceChunks:
        """The chunks of one answer."""
        opening = b"data: " + _encode(self._head)[:-1] + b',"choices":[{"index":%d,"delta":{' % index
        return ChoiceChunks(
            opening, self._tail, self._reasoning_names, partial(call_id, self._completion_id, index)
        )

    def usage(self, usage: TokenCounts) -> bytes:
        """The chunk after all ends, for those who asked for it."""
        return event({**self._head, "choices": [], "usage": _usage(usage)})

    def completion(
        self, answers: Sequence[Completion], usage: TokenCounts, *, logprobs: bool = False
    ) -> bytes:
        """The unstreamed reply.

        Args:
            logprobs: they were asked for.

        Raises:
            InternalError: an answer has no end.
        """
        choices = [self._choice(index, answer, logprobs) for index, answer in enumerate(answers)]
        head = {**self._head, "object": "chat.completion"}
        return _encode({**head, "choices": choices, "usage": _usage(usage)})

    def _choice(self, index: int, answer: Completion, logprobs: bool) -> dict[str, Any]:
        ending = answer.ending
        if ending is None:
            raise InternalError("The answer has no end.")
        content = "".join(answer.content)
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if answer.calls else "")}
        reasoning = "".join(answer.reasoning) or None
        message |= dict.fromkeys(self._reasoning_names, reasoning)
        message["refusal"] = None
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": call_id(self._completion_id, index, number),
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(call.arguments)},
                }
                for number, call in enumerate(answer.calls)
            ]
        choice: dict[str, Any] = {
            "index": index,
            "message": message,
            "logprobs": _logprobs(answer.scores) if logprobs else None,
            "finish_reason": ending.finish_reason,
        }
        if ending.token_ids is not None:
            choice["token_ids"] = ending.token_ids
        return choice


class ChoiceChunks:
    """One answer's parts as chunks, in order; made by `ChatReply.choice`.

    The first chunk has the role. It comes with the first text and not before it, so that clients measure the true
    first token. An answer that has neither content nor calls gets empty content at its end, because `null` there would
    say that there are calls.
    """

    def __init__(
        self, opening: bytes, tail: bytes, reasoning_names: tuple[str, ...], call_id_of: Callable[[int], str]
    ) -> None:
        self._opening = opening
        self._going_on = b'},"logprobs":null,"finish_reason":null}]' + tail
        self._scored = b'},"logprobs":%b,"finish_reason":null}]' + tail
        self._ending = b'},"logprobs":null,"finish_reason":"%b"%b}]' + tail
        self._reasoning_keys = [_encode(name) + b":" for name in reasoning_names]
        self._call_id_of = call_id_of
        self._begun = False
        self._empty = True  # neither content nor a call so far

    def events(self, part: Part) -> list[bytes]:
        """The events of one part, each one to be written by itself."""
        if self._begun:
            return [self._event(part)]
        self._begun = True
        return [self._role(part), self._event(part)]

    def _role(self, first: Part) -> bytes:
        if isinstance(first, AnswerDelta) and first.kind == "content":
            return self._opening + b'"role":"assistant","content":""' + self._going_on
        return self._opening + b'"role":"assistant"' + self._going_on

    def _event(self, part: Part) -> bytes:
        if isinstance(part, Ending):
            return self._end(part)
        if part.kind == "reasoning":
            text = _encode(part.text)
            return self._opening + b",".join(key + text for key in self._reasoning_keys) + self._going_on
        self._empty = False
        if part.kind == "tool_call":
            return self._opening + b'"tool_calls":[' + _encode(self._call(part)) + b"]" + self._going_on
        rest = self._going_on
        if isinstance(part, ScoredDelta):
            rest = self._scored % _encode(_logprobs(part.scores))
        return self._opening + b'"content":' + _encode(part.text) + rest

    def _call(self, part: AnswerDelta) -> dict[str, Any]:
        if part.name is None:
            return {"index": part.call, "function": {"arguments": part.text}}
        return {
            "index": part.call,
            "id": self._call_id_of(part.call or 0),
            "type": "function",
            "function": {"name": part.name, "arguments": part.text},
        }

    def _end(self, ending: Ending) -> bytes:
        token_ids = b"" if ending.token_ids is None else b',"token_ids":' + _encode(ending.token_ids)
        content = b'"content":""' if self._empty else b""
        return self._opening + content + self._ending % (ending.finish_reason.encode(), token_ids)


def _usage(counts: TokenCounts) -> dict[str, Any]:
    return {
        **text_usage(counts),
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }


def text_usage(counts: TokenCounts) -> dict[str, Any]:
    """OpenAI's usage, without what not every endpoint tells apart."""
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
    }


def _logprobs(scores: list[TokenScore]) -> dict[str, Any]:
    return {"content": token_logprobs(scores), "refusal": None}


def token_logprobs(scores: list[TokenScore]) -> list[dict[str, Any]]:
    """OpenAI's record of each token."""
    return [
        {
            **_token(score.token_id, score.logprobs.logprob),
            "top_logprobs": [_token(token, logprob) for token, logprob in score.logprobs.top],
        }
        for score in scores
    ]


def _token(token_id: int, logprob: float) -> dict[str, Any]:
    data = tokens.token_bytes(token_id) or tokens.decode([token_id]).encode()
    return {
        "token": data.decode(errors="replace"),
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": list(data),
    }
