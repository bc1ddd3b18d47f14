"""The decoupled engine model: Triton's requests in, the engine's answers out.

`execute` checks, enqueues and returns. Then three threads share the work: the engine's own computes, the
sender writes answers, the ticker pushes load reports, looks for clients that have gone and feeds Triton's
metrics.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

from gpt_oss_triton import wire
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.choice import make_engine
from gpt_oss_triton.engine.protocol import Engine, EngineRequest
from gpt_oss_triton.errors import ConfigurationError, InternalError, InvalidRequest, ServiceError
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.triton_backend.answer_stream import AnswerStream
from gpt_oss_triton.triton_backend.checkpoint_place import find_checkpoint
from gpt_oss_triton.triton_backend.delivery_streams import DeliveryStreams
from gpt_oss_triton.triton_backend.failure_log import log_failure
from gpt_oss_triton.triton_backend.generation_request import read_generation_request
from gpt_oss_triton.triton_backend.inputs import Inputs
from gpt_oss_triton.triton_backend.live_requests import LiveRequests
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.triton_backend.self_check import check_tensors
from gpt_oss_triton.triton_backend.sender import Sender
from gpt_oss_triton.triton_backend.ticker import Ticker
from gpt_oss_triton.triton_backend.triton_metrics import TritonMetrics
from gpt_oss_triton.triton_backend.watch_streams import WatchStreams
from gpt_oss_triton.wire import Cancel, CancelResult, Control, Deliver, EndLeases, Ping, Tune, Watch

_GONE_POLL_S = 0.5  # how often clients that may have gone are looked for
_JOIN_S = 5.0  # for each thread at unload


class EngineModel:
    """What `gpt_oss_*_engine/1/model.py` gives to Triton."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Raises:
        TritonModelException: it cannot be served as configured; says what to change.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            check_tensors()
            settings = EngineSettings.load()
            self._engine: Engine = make_engine(settings, lambda: find_checkpoint(args, settings))
        except ConfigurationError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._live = LiveRequests()
        self._sender = Sender()
        self._ticker = Ticker()
        self._watches = WatchStreams(self._engine.load, self._ticker)
        self._deliveries = DeliveryStreams(settings.delivery_interval_s, self._sender.ready)
        self._ticker.add(self._cancel_gone)
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._metrics = TritonMetrics(self._engine.load, labels)
        self._ticker.add(self._metrics.update)

    def execute(self, requests: list[Any]) -> None:
        """Take requests; their responses come later, from other threads."""
        for request in requests:
            responder = Responder(request)
            try:
                self._take(request, responder)
            except ServiceError as error:
                responder.abort(error)
            except BaseException as error:  # process boundary, for Rust's panics too: no stack trace leaves
                log_failure("a request failed", error)
                responder.abort(InternalError("The engine model failed on this request."))

    def finalize(self) -> None:
        """End every stream and thread. Triton calls it when no request is in flight, unless it was made to
        stop, so there is usually nothing left to end."""
        self._ticker.close(_JOIN_S)
        self._metrics.close()
        self._watches.close()
        self._engine.close()
        self._sender.close(_JOIN_S)
        for stream in self._live.all():
            stream.abandon()
        self._deliveries.close()

    def _take(self, request: Any, responder: Responder) -> None:
        inputs = Inputs(request)
        if wire.CONTROL not in inputs:
            self._generate(inputs, request.request_id() or uuid.uuid4().hex, responder)
            return
        if others := sorted(inputs.names() - {wire.CONTROL.name}):
            raise InvalidRequest(f"control excludes {', '.join(others)}.", param=wire.CONTROL.name)
        match inputs.record(wire.CONTROL, Control):  # type: ignore[arg-type]  # mypy: a union is no type[T]
            case Cancel(request_id=request_id):
                responder.send(event=CancelResult(self._cancel(request_id)), final=True)
            case Ping():
                responder.send(event=self._engine.load(), final=True)
            case Watch(interval_s=interval_s):
                self._watches.open(responder, interval_s)
            case Deliver(id=stream_id):
                self._deliveries.open(stream_id, responder)
            case Tune(max_step_tokens=max_step_tokens):
                self._engine.tune(max_step_tokens)
                responder.send(event=self._engine.load(), final=True)
            case EndLeases(ids=ids):
                self._engine.end_leases(ids)
                responder.send(event=self._engine.load(), final=True)

    def _generate(self, inputs: Inputs, request_id: str, responder: Responder) -> None:
        generation = read_generation_request(inputs)
        delivery = generation.options.delivery
        stream = AnswerStream(
            request_id,
            generation,
            responder,
            None if delivery is None else self._deliveries.outlet(delivery),
            on_ready=self._sender.ready,
            on_end=self._let_go,
        )
        self._live.add(stream)
        try:
            self._engine.submit(
                EngineRequest(
                    request_id=request_id,
                    prompt_token_ids=generation.prompt_token_ids,
                    options=generation.options,
                    stop_text=_stop_text(generation.options.stop),
                ),
                stream.put,
            )
        except BaseException:
            self._live.discard(stream)
            raise

    def _let_go(self, stream: AnswerStream) -> None:
        """An answer ends. One that could not be sent ends before the engine knows."""
        self._engine.cancel(stream.request_id)
        self._live.discard(stream)
        if stream.timings is not None:
            self._metrics.note(stream.timings)

    def _cancel(self, request_id: str) -> bool:
        found = self._engine.cancel(request_id)
        if not found:
            self._live.cancel_early(request_id)
        return found

    def _cancel_gone(self) -> float:
        """Cancel what no client waits for any more."""
        self._deliveries.sweep()
        for stream in self._live.all():
            try:
                if stream.is_cancelled():
                    self._engine.cancel(stream.request_id)
            except Exception as error:  # of one stream: the others' clients are still to be watched
                log_failure("a cancellation could not be polled", error)
        return _GONE_POLL_S


def _stop_text(stop: list[str]) -> Callable[[int], str | None] | None:
    """The engine's view of stop strings. It has a decoder of its own, because the text of the answer is
    decoded later, on the sender's thread."""
    if not stop:
        return None
    answer = AnswerText(stop)

    def completed_stop(token_id: int) -> str | None:
        answer.feed([token_id])
        return answer.stopped

    return completed_stop
