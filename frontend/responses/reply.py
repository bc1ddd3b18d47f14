"""The response object in each of its states, and its events as bytes."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from frontend.chat_reply import event
from frontend.chat_request import Effort
from frontend.fold import Ending
from frontend.responses.output import Event, Output
from frontend.responses.request import CreateResponse
from gpt_oss_triton.errors import Cancelled, InvalidRequest, Overloaded, ServiceError
from gpt_oss_triton.telemetry.token_counts import TokenCounts

Record = dict[str, Any]


class Reply:
    """One response.

    Args:
        created: Unix seconds.
        effort: of the reasoning.

    Attributes:
        output: what has come of the answer.
    """

    def __init__(self, request: CreateResponse, response_id: str, created: int, effort: Effort) -> None:
        self.id = response_id
        self.output = Output(response_id)
        self._events = 0
        self._record = _unchanging(request, effort) | {
            "id": response_id,
            "object": "response",
            "created_at": created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
        }

    @property
    def status(self) -> str:
        return str(self._record["status"])

    def record(self) -> Record:
        """The response as it is now."""
        return {**self._record, "output": self.output.items}

    def begin(self) -> list[bytes]:
        """The first events."""
        return [
            self.encode({"type": kind, "response": self.record()})
            for kind in ("response.created", "response.in_progress")
        ]

    def finish(self, ending: Ending, usage: TokenCounts) -> list[Event]:
        """The events of the end; the last one holds the whole response."""
        cut = ending.finish_reason == "length"
        events = self.output.close(complete=not cut)
        self._record["status"] = "incomplete" if cut else "completed"
        self._record["usage"] = _usage(usage)
        if cut:
            self._record["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self._record["completed_at"] = int(time.time())
        return [*events, {"type": f"response.{self._record['status']}", "response": self.record()}]

    def fail(self, failure: ServiceError) -> None:
        """It has failed, or was cancelled, and ends as it is."""
        self.output.close(complete=False)
        if isinstance(failure, Cancelled):
            self._record["status"] = "cancelled"
        else:
            self._record["status"] = "failed"
            self._record["error"] = {"code": _error_code(failure), "message": failure.message}

    def encode(self, change: Event) -> bytes:
        """One server-sent event, with the next sequence number."""
        data = event({**change, "sequence_number": self._events})
        self._events += 1
        return b"event: %b\n%b" % (str(change["type"]).encode(), data)


def _unchanging(request: CreateResponse, effort: Effort) -> Record:
    """What a response repeats of its request."""
    return {
        "background": False,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": None,
        "metadata": request.metadata,
        "model": request.model,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": effort, "summary": None},
        "safety_identifier": None,
        "service_tier": "flex" if request.service_tier == "flex" else "default",
        "store": request.store,
        "temperature": request.temperature,
        "text": {"format": msgspec.to_builtins(request.text.format), "verbosity": "medium"},
        "tool_choice": request.tool_choice,
        "tools": [{"strict": False, "parameters": None, **tool} for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": request.truncation,
    }


def _usage(counts: TokenCounts) -> Record:
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }


def _error_code(failure: ServiceError) -> str:
    """One of those that OpenAI's response object knows."""
    if isinstance(failure, Overloaded):
        return "rate_limit_exceeded"
    return "invalid_prompt" if isinstance(failure, InvalidRequest) else "server_error"
