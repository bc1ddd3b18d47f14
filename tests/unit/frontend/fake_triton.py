"""A Triton for the shim's unit tests: a gRPC server in this process whose engine does what a test says.

For what is hard to provoke in a real one: silence at a chosen moment, a chosen order, a chosen error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import grpc
import msgspec
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from gpt_oss_triton import wire
from gpt_oss_triton.errors import ServiceError, to_wire
from tests.unit.frontend.harmony_turn import turn

ENSEMBLE = "gpt-oss-20b"
ENGINE = wire.ENGINE_OF[ENSEMBLE]
NOT_HEALTHY = f"in ensemble '{ENSEMBLE}', Stub process '{ENGINE}_0_0' is not healthy."

LOAD = wire.Load(
    pid=1, started=0.0, sequence=0, running=0, waiting=0, blocks_total=8192, blocks_used=0, blocks_cached=0,
    block_size=16, max_context=4096, max_sequences=64, max_waiting=256, steps=0, step_age_s=0.0,
    prompt_tokens=0, cached_tokens=0, output_tokens=0, preemptions=0, failed_steps=0,
    output_tokens_per_s=0.0, dtype="float32", device="cpu", checkpoint="fake",
    records_form=wire.RECORDS_FORM,
)  # fmt: skip


@dataclasses.dataclass
class Request:
    """What the fake got. `ended` is set when the shim has gone or the answer is complete."""

    id: str
    prompt: wire.PromptRequest
    options: wire.GenerationOptions  # without the delivery
    delivery: wire.Delivery | None
    outputs: list[str]
    ended: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


Script = Callable[[Request], AsyncIterator[tuple[list[int], wire.Event | None]]]


def accepted(prompt_tokens: int = 7) -> tuple[list[int], wire.Event | None]:
    return [], wire.Accepted(prompt_tokens=prompt_tokens, cached_tokens=0)


async def endless(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
    """The beginning of an answer, of which no more comes."""
    yield accepted()
    yield turn("think", "Hello! ")[:-1], None
    await asyncio.Event().wait()


def finished(
    tokens: list[int], reason: wire.FinishReason = "stop", count: int | None = None
) -> tuple[list[int], wire.Event | None]:
    return tokens, wire.Finished(reason, 7, len(tokens) if count is None else count, cached_tokens=4)


class FakeTriton(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Attributes:
    script: answers a request; whatever ServiceError it raises is the response.
    mode: `alive`, `dead` (requests fail at once, streams hang) or `hung` (nothing answers).
    cancelled: ids that were cancelled by id.
    controls: what was asked of the model control, in order.
    tuned: what was asked of the engine itself, in order.
    ends: how often a test's supervisor was given work.
    deliveries: what goes to each delivery stream; None ends it.
    watches: how many watch streams were opened. Set `mute_watch` to silence the open one.
    """

    def __init__(self) -> None:
        self.script: Script = self.echo
        self.mode = "alive"
        self.load = LOAD
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.controls: list[str] = []
        self.tuned: list[wire.Tune | wire.EndLeases] = []
        self.model_state = "READY"
        self.port = 0
        self.watches = 0
        self.ends = 0
        self.mute_watch = asyncio.Event()
        self.deliveries: dict[str, asyncio.Queue[tuple[list[int], wire.Event] | None]] = {}

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    @staticmethod
    async def echo(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
        yield accepted()
        yield finished([])

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for message in requests:
            if self.mode == "dead":
                yield service_pb2.ModelStreamInferResponse(error_message=NOT_HEALTHY)
                return
            await self._hang_if_not_alive()
            tensors = {t.name: raw for t, raw in zip(message.inputs, message.raw_input_contents, strict=True)}
            if wire.CONTROL.name in tensors:
                assert message.model_name == ENGINE
                control = wire.decode(tensors[wire.CONTROL.name][4:], wire.Control)  # type: ignore[arg-type]
                answers = (
                    self._deliver(control) if isinstance(control, wire.Deliver) else self._control(control)
                )
                async for token_ids, event in answers:
                    yield _response(token_ids, event)
                continue
            assert message.model_name == ENSEMBLE
            options = wire.decode(tensors[wire.OPTIONS.name][4:], wire.GenerationOptions)
            request = Request(
                message.id,
                wire.decode(tensors[wire.PROMPT.name][4:], wire.PromptRequest),
                msgspec.structs.replace(options, delivery=None),
                options.delivery,
                [output.name for output in message.outputs],
            )
            self.requests.append(request)
            try:
                async for token_ids, event in self.script(request):
                    await self._hang_if_not_alive()
                    if token_ids and request.delivery is not None and request.delivery.ticket is not None:
                        batch = wire.Batch([request.delivery.ticket], [len(token_ids)])
                        self.deliveries[request.delivery.stream].put_nowait((token_ids, batch))
                        token_ids = []
                        if event is None:
                            continue
                    yield _response(token_ids, event)
            except ServiceError as error:
                yield service_pb2.ModelStreamInferResponse(error_message=f"in ensemble, {to_wire(error)}")
            finally:
                request.ended.set()

    async def _deliver(self, control: wire.Deliver) -> AsyncIterator[tuple[list[int], wire.Event]]:
        batches = self.deliveries[control.id] = asyncio.Queue()
        yield [], wire.Batch([], [])
        while (batch := await batches.get()) is not None:
            await self._hang_if_not_alive()
            yield batch

    async def _control(self, control: wire.Control) -> AsyncIterator[tuple[list[int], wire.Event]]:
        match control:
            case wire.Ping():
                yield [], self.load
            case wire.Tune() | wire.EndLeases():
                self.tuned.append(control)
                yield [], self.load
            case wire.Cancel(request_id):
                live = any(r.id == request_id and not r.ended.is_set() for r in self.requests)
                self.cancelled.append(request_id)
                yield [], wire.CancelResult(live)
            case wire.Watch(interval_s):
                sequence = 0
                self.watches += 1
                while True:
                    await self._hang_if_not_alive()
                    if self.mute_watch.is_set():
                        self.mute_watch.clear()
                        await asyncio.Event().wait()
                    yield [], msgspec.structs.replace(self.load, sequence=sequence)
                    sequence += 1
                    await asyncio.sleep(interval_s)

    async def _hang_if_not_alive(self) -> None:
        if self.mode != "alive":
            await asyncio.Event().wait()

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        index = service_pb2.RepositoryIndexResponse()
        index.models.add(name=ENGINE, state=self.model_state)
        return index

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.controls.append(f"unload {request.model_name}")
        self.model_state = "UNAVAILABLE"
        return service_pb2.RepositoryModelUnloadResponse()

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.controls.append(f"load {request.model_name}")
        self.model_state, self.mode = "READY", "alive"
        self.load = msgspec.structs.replace(self.load, pid=self.load.pid + 1, started=time.time())
        return service_pb2.RepositoryModelLoadResponse()


def _response(token_ids: list[int], event: wire.Event | None) -> Any:
    response = service_pb2.ModelStreamInferResponse()
    infer = response.infer_response
    infer.outputs.add(name=wire.TOKEN_IDS.name, datatype="INT32", shape=[len(token_ids)])
    infer.raw_output_contents.append(np.asarray(token_ids, dtype=np.int32).tobytes())
    data = b"" if event is None else wire.encode(event)
    infer.outputs.add(name=wire.EVENT.name, datatype="BYTES", shape=[1])
    infer.raw_output_contents.append(len(data).to_bytes(4, "little") + data)
    return response
