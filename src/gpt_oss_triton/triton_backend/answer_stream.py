"""One request's answer: from the engine's events to Triton's responses.

The engine's thread puts events in, the sender's thread takes them out and folds all it finds into as few
responses as the contract allows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.errors import EngineUnavailable, ServiceError
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.triton_backend.delivery_streams import Outlet
from gpt_oss_triton.triton_backend.generation_request import GenerationRequest
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.wire import Accepted, Finished, Logprobs, Timings, TokenLogprobs

_FIRST_EVENTS = 4  # a channel's header is three tokens: the first that anybody sees is not kept waiting


class AnswerStream:
    """Attributes:
    request_id: as the client named it, or as it was named for it.
    timings: known at its end, unless it failed.
    """

    def __init__(
        self,
        request_id: str,
        request: GenerationRequest,
        responder: Responder,
        outlet: Outlet | None = None,
        *,
        on_ready: Callable[[AnswerStream], None],
        on_end: Callable[[AnswerStream], None],
    ) -> None:
        """`on_ready` is called (any thread) when there is something to flush, `on_end` just before the
        final response, so that the client may use the id again as soon as it has that.

        Args:
            outlet: takes the tokens in place of the request's own stream, if it has a ticket; the request ends with it.
        """
        self.request_id = request_id
        self.timings: Timings | None = None
        self._request = request
        self._responder = responder
        self._outlet = outlet
        self._on_ready = on_ready
        self._on_end = on_end
        self._urgent = _FIRST_EVENTS  # events with tokens that are still to be sent at once; the engine's
        self._lock = threading.Lock()
        self._events: list[EngineEvent] = []  # guarded by _lock, as is _waiting
        self._waiting = False  # on the sender's queue
        # Everything below belongs to the sender's thread.
        self._text = AnswerText(request.options.stop) if request.return_text else None
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs] = []  # of those tokens, where asked for
        self._output_tokens = 0
        self._ended = False

    def put(self, event: EngineEvent) -> None:
        """Called by the engine, in order. Neither blocks nor raises."""
        if self._outlet is not None and self._outlet.ticket is not None:
            if isinstance(event, NewTokens):
                self._deliver(self._outlet, event.token_ids)
                return
            self._outlet.hurry()
        with self._lock:
            self._events.append(event)
            announce, self._waiting = not self._waiting, True
        if announce:
            self._on_ready(self)

    def _deliver(self, outlet: Outlet, token_ids: list[int]) -> None:
        outlet.put(token_ids)
        if self._urgent:
            self._urgent -= 1
            outlet.hurry()

    def is_cancelled(self) -> bool:
        """Whether the client has gone, as far as Triton tells."""
        return self._responder.is_cancelled() or (self._outlet is not None and self._outlet.closed)

    def flush(self) -> None:
        """Write what has come since the last call. Called on the sender's thread."""
        with self._lock:
            events, self._events, self._waiting = self._events, [], False
        if self._ended:
            return  # abandoned, and the engine has come to know of it
        for event in events:
            match event:
                case PromptAccepted():
                    self._accept(event)
                case NewTokens():
                    self._tokens.extend(event.token_ids)
                    self._logprobs.extend(event.logprobs or ())
                case SequenceFinished():
                    self._finish(event)
                case SequenceFailed():
                    self._fail(event.error)
        if self._request.streamed and self._tokens:
            self._write()

    def abandon(self) -> None:
        """End the stream, with an error if that can still be written. Does nothing after its end."""
        if not self._ended:
            self._end()
        self._responder.abort(EngineUnavailable("The engine was stopped."))

    def _accept(self, event: PromptAccepted) -> None:
        if self._request.streamed:
            self._responder.send(
                event=Accepted(event.prompt_tokens, event.cached_tokens, self._request.prompt),
                num_input_tokens=event.prompt_tokens,
            )

    def _finish(self, event: SequenceFinished) -> None:
        self.timings = event.timings
        if self._request.streamed and self._logprobs:
            self._write()  # one event a response
        self._end()
        self._write(
            Finished(
                finish_reason=event.finish_reason,
                prompt_tokens=event.prompt_tokens,
                completion_tokens=event.completion_tokens,
                cached_tokens=event.cached_tokens,
                stop=event.stop,
                preemptions=event.preemptions,
                blocks=event.blocks,
                timings=event.timings,
                prompt=None if self._request.streamed else self._request.prompt,
                logprobs=self._logprobs,
            )
        )

    def _fail(self, error: ServiceError) -> None:
        self._tokens = []  # an error response carries none
        self._end()
        self._responder.fail(error)

    def _end(self) -> None:
        self._ended = True
        self._on_end(self)

    def _write(self, finished: Finished | None = None) -> None:
        """The collected tokens, and with `finished` the end."""
        tokens, self._tokens = self._tokens, []
        logprobs, self._logprobs = self._logprobs, []
        self._output_tokens += len(tokens)
        self._responder.send(
            text=self._decode(tokens, last=finished is not None),
            token_ids=tokens,
            event=finished or (Logprobs(logprobs) if logprobs else None),
            num_input_tokens=len(self._request.prompt_token_ids),
            num_output_tokens=self._output_tokens,
            final=finished is not None,
        )

    def _decode(self, tokens: list[int], *, last: bool) -> str:
        """The answer's new text; at its end also what was held back until it was certain."""
        if self._text is None:
            return ""
        deltas = [*self._text.feed(tokens), *(self._text.finish() if last else ())]
        return "".join(delta.text for delta in deltas if delta.kind == "content")
