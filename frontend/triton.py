"""Triton over gRPC: the one module that knows gRPC, protobuf and tritonclient.

Its errors become the project's own here, and only here. Responses are parsed by hand from
`raw_output_contents`, because this code runs once for every token.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import msgspec
from tritonclient.grpc.service_pb2 import (
    ModelInferRequest,
    ModelReadyRequest,
    RepositoryIndexRequest,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
    ServerLiveRequest,
)
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from gpt_oss_triton import errors, wire
from gpt_oss_triton.harmony.check import MAX_PROMPT_IDS

log = logging.getLogger(__name__)
_events: msgspec.json.Decoder[wire.Event] = msgspec.json.Decoder(wire.Event)
EventT = TypeVar("EventT", bound=wire.Event)

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
# How Triton says that an engine is gone. Its status codes reach a stream only under the header
# `triton_grpc_error`, which must not be used: with it Triton 2.51 cancels each stream that it refuses, and
# crashes (signal 11) when a client drops such a stream at the wrong moment.
_GONE = re.compile(r"is not healthy|unknown model|not ready|no available versions|unloading", re.IGNORECASE)
_NORMALIZER_GONE = re.compile(rf"Stub process '{wire.NORMALIZER_MODEL}[^']*' is not healthy")
_ANSWER_TENSORS = (wire.TOKEN_IDS.name, wire.EVENT.name)
_RETRY_AFTER_S = 1.0
_UNARY_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Answer:
    """One response of an engine model: the tokens since the response before, and perhaps an event."""

    token_ids: list[int]
    event: wire.Event | None

    @property
    def logprobs(self) -> Sequence[wire.TokenLogprobs]:
        """Of its tokens, where they were asked for."""
        match self.event:
            case wire.Logprobs(tokens=logprobs) | wire.Finished(logprobs=logprobs):
                return logprobs
            case _:
                return ()


class AnswerStream:
    """The responses to one request, in order.

    Args:
        heard: gets Triton's text of what failed.
    """

    def __init__(self, call: Any, heard: Callable[[str], None] = lambda text: None) -> None:
        self._call = call
        self._heard = heard
        self._responses = aiter(call)

    async def read(self) -> Answer | None:
        """The next response, or None after the last one.

        Raises:
            ServiceError: the request failed, or `cancel` was called (`Cancelled`).
        """
        try:
            async for response in self._responses:
                if response.error_message:
                    self._heard(response.error_message)
                    raise _from_text(response.error_message, None)
                if response.infer_response.outputs:  # an empty final response only says that it is final
                    return _parse(response.infer_response)
        except grpc.aio.AioRpcError as error:
            raise _from_text(error.details() or "", error.code()) from error
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            raise errors.Cancelled("The request was cancelled.") from None
        return None

    async def end(self, grace_s: float) -> None:
        """Let the stream end by itself, and cancel it only when it has not after `grace_s` seconds: a
        cancellation just before the end is the path on which Triton is least safe."""
        try:
            async with asyncio.timeout(grace_s):
                while await self.read() is not None:
                    pass
        except (errors.ServiceError, TimeoutError):
            self.cancel()

    def cancel(self) -> None:
        """Give up the stream on this side; a pending `read` raises. Idempotent."""
        self._call.cancel()


class Triton:
    """One connection to one Triton server. Create it, use it and close it in the same event loop.

    Args:
        url: host:port of Triton's gRPC.
        control_key: what Triton asks for before it lists, loads or unloads models, if anything.

    Attributes:
        normalizer_failed: set when a request has found a process of the normalizer dead. Triton starts none again, and goes on
            giving it its share of the requests (measured on Triton 2.51).
    """

    def __init__(self, url: str, control_key: str | None = None) -> None:
        self.url = url
        self._control_key = ((wire.GRPC_CONTROL_KEY_HEADER, control_key),) if control_key else ()
        self._channel = grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self.normalizer_failed = asyncio.Event()

    async def close(self) -> None:
        await self._channel.close()

    def generate(
        self,
        model: str,
        request_id: str,
        prompt: wire.PromptRequest,
        options: wire.GenerationOptions,
        traceparent: str | None = None,
    ) -> AnswerStream:
        """Start one request. Errors come from the stream's first `read`.

        Args:
            traceparent: W3C trace context under which Triton's own spans go.
        """
        request = _request(model, request_id)
        _add_bytes(request, wire.PROMPT, wire.encode(prompt))
        _add_bytes(request, wire.OPTIONS, wire.encode(options))
        _add_bool(request, wire.STREAM, True)
        _add_bool(request, wire.RETURN_TEXT, False)
        return self._open(request, metadata=(("traceparent", traceparent),) if traceparent else None)

    def watch(self, engine: str, interval_s: float) -> AnswerStream:
        """A stream of `Load` events that lasts until it is cancelled."""
        return self._control(engine, wire.Watch(interval_s), timeout_s=None)

    def deliver(self, engine: str, stream_id: str) -> AnswerStream:
        """A stream of `Batch` events that lasts until it is cancelled; the first one, which is empty, says that
        requests may name it."""
        return self._control(engine, wire.Deliver(stream_id), timeout_s=None)

    async def ping(self, engine: str, timeout_s: float) -> wire.Load:
        """Ask an engine for its load.

        Raises:
            DeadlineExceeded: no answer in `timeout_s` seconds.
            EngineUnavailable: dead, not loaded, or Triton cannot be reached.
        """
        return await self._ask(engine, wire.Ping(), wire.Load, timeout_s)

    async def cancel(self, engine: str, request_id: str, timeout_s: float) -> bool:
        """End a request in its engine; False when the engine does not have it. Raises as `ping`."""
        return (await self._ask(engine, wire.Cancel(request_id), wire.CancelResult, timeout_s)).found

    async def tune(self, engine: str, max_step_tokens: int | None, timeout_s: float) -> wire.Load:
        """Set an engine's step size, None for the configured one. Raises as `ping`."""
        return await self._ask(engine, wire.Tune(max_step_tokens), wire.Load, timeout_s)

    async def end_leases(self, engine: str, sessions: list[str], timeout_s: float) -> wire.Load:
        """Give up the KV leases of sessions. Raises as `ping`."""
        return await self._ask(engine, wire.EndLeases(sessions), wire.Load, timeout_s)

    async def server_live(self) -> bool:
        try:
            answer = await _unary(self._stub.ServerLive(ServerLiveRequest(), timeout=_UNARY_TIMEOUT_S))
        except errors.ServiceError:
            return False
        return bool(answer.live)

    async def model_ready(self, model: str) -> bool:
        request = ModelReadyRequest(name=model)
        return bool((await _unary(self._stub.ModelReady(request, timeout=_UNARY_TIMEOUT_S))).ready)

    async def model_state(self, model: str) -> str:
        """`READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`; the empty string when it was never loaded."""
        index = await _unary(
            self._stub.RepositoryIndex(
                RepositoryIndexRequest(), metadata=self._control_key, timeout=_UNARY_TIMEOUT_S
            )
        )
        return next((str(entry.state) for entry in index.models if entry.name == model), "")

    async def load_model(self, model: str) -> None:
        """Load a model and wait for it, however long that takes. Needs explicit model control."""
        request = RepositoryModelLoadRequest(model_name=model)
        await _unary(self._stub.RepositoryModelLoad(request, metadata=self._control_key))

    async def unload_model(self, model: str) -> None:
        """Begin to unload a model. Needs explicit model control."""
        request = RepositoryModelUnloadRequest(model_name=model)
        await _unary(self._stub.RepositoryModelUnload(request, metadata=self._control_key))

    async def _ask(self, engine: str, control: wire.Control, kind: type[EventT], timeout_s: float) -> EventT:
        stream = self._control(engine, control, timeout_s)
        answer = await stream.read()
        await stream.end(timeout_s)
        if answer is None or not isinstance(answer.event, kind):
            raise errors.InternalError(f"{engine} did not answer {type(control).__name__}.")
        return answer.event

    def _control(self, engine: str, control: wire.Control, timeout_s: float | None) -> AnswerStream:
        request = _request(engine, "")
        _add_bytes(request, wire.CONTROL, wire.encode(control))
        return self._open(request, timeout_s)

    def _open(
        self,
        request: Any,
        timeout_s: float | None = None,
        metadata: tuple[tuple[str, str], ...] | None = None,
    ) -> AnswerStream:
        # The iterator ends after one request: with the half-close Triton ends the stream after the last response.
        call = self._stub.ModelStreamInfer(iter((request,)), timeout=timeout_s, metadata=metadata)
        return AnswerStream(call, self._heard)

    def _heard(self, text: str) -> None:
        if _NORMALIZER_GONE.search(text):
            self.normalizer_failed.set()

    # ---------------------------------------------------------------------- the normalizer

    async def normalize(
        self, prompt: wire.PromptRequest, timeout_s: float
    ) -> tuple[list[int], wire.PromptInfo]:
        """A prompt as the normalizer renders it for the engines: its token ids, and what is known of them.

        Raises:
            InvalidRequest: it cannot be rendered, or has more ids than a prompt of ids may have.
            DeadlineExceeded, EngineUnavailable: as `ping`.
        """
        request = ModelInferRequest(model_name=wire.NORMALIZER_MODEL)
        _add_bytes(request, wire.PROMPT, wire.encode(prompt))
        ids, info = _parse_prompt(
            await _unary(self._stub.ModelInfer(request, timeout=timeout_s), self._heard)
        )
        if len(ids) > MAX_PROMPT_IDS:
            param = "messages" if prompt.text is None else "text"
            raise errors.InvalidRequest(f"The prompt has more than {MAX_PROMPT_IDS} tokens.", param=param)
        return ids.tolist(), info


async def _unary(call: Any, heard: Callable[[str], None] = lambda text: None) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        heard(error.details() or "")
        raise _from_text(error.details() or "", error.code()) from error


def _request(model: str, request_id: str) -> Any:
    request = ModelInferRequest(model_name=model, id=request_id)
    for name in _ANSWER_TENSORS:  # the others would cost time in the engine and on the wire
        request.outputs.add(name=name)
    return request


def _add_bytes(request: Any, spec: wire.TensorSpec, data: bytes) -> None:
    request.inputs.add(name=spec.name, datatype=spec.dtype, shape=spec.dims)
    request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)


def _add_bool(request: Any, spec: wire.TensorSpec, value: bool) -> None:
    request.inputs.add(name=spec.name, datatype=spec.dtype, shape=spec.dims)
    request.raw_input_contents.append(b"\x01" if value else b"\x00")


def _parse(response: Any) -> Answer:
    token_ids: list[int] = []
    event: wire.Event | None = None
    try:
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
            if tensor.name == wire.TOKEN_IDS.name:
                token_ids = memoryview(raw).cast("i").tolist()
            elif tensor.name == wire.EVENT.name and len(raw) > 4:  # four bytes of length, then the JSON
                event = _events.decode(raw[4:])
    except (ValueError, TypeError) as error:  # msgspec.DecodeError is a ValueError
        log.error("an answer that is not in wire.py's form, of another version perhaps: %s", error)
        raise errors.InternalError("The inference server's answer cannot be read.") from None
    return Answer(token_ids, event)


def _parse_prompt(response: Any) -> tuple[memoryview[int], wire.PromptInfo]:
    raw = dict(zip((t.name for t in response.outputs), response.raw_output_contents, strict=True))
    ids = memoryview(raw[wire.PROMPT_TOKEN_IDS.name]).cast("i")
    return ids, wire.decode(raw[wire.PROMPT_INFO.name][4:], wire.PromptInfo)


def _from_text(text: str, code: grpc.StatusCode | None) -> errors.ServiceError:
    """Triton's error as ours. Text that is not ours goes to the log and not to the caller."""
    known = errors.from_wire(text)
    if known is not None:
        if isinstance(known, errors.Overloaded | errors.EngineUnavailable):
            known.retry_after_s = _RETRY_AFTER_S
        return known
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded("Triton did not answer in time.")
    if code == grpc.StatusCode.CANCELLED:
        return errors.Cancelled("Triton cancelled the request.")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND) or _GONE.search(text):
        log.debug("Triton: %s", text)  # the watch tells it once
        return errors.EngineUnavailable("The model's engine is not available.", retry_after_s=_RETRY_AFTER_S)
    log.error("Triton: %s %s", code.name if code else "error", text)
    return errors.InternalError("The inference server failed to run the request.")


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
