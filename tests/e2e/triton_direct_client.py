"""A plain client of Triton's gRPC, as a script would write it with tritonclient."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from gpt_oss_triton import errors, wire
from gpt_oss_triton.launch.triton_server import TritonServer

DEADLINE_S = 60.0  # for one response; what takes longer hangs
READY_S = 120.0
REPOSITORY = Path(__file__).parents[2] / "model_repository"
ENSEMBLE = "gpt-oss-20b"
ENGINE = wire.ENGINE_OF[ENSEMBLE]

_SPECS = {spec.name: spec for spec in (*wire.ENSEMBLE_INPUTS, *wire.ENGINE_INPUTS)}
_NUMPY = {"BOOL": np.bool_, "BYTES": np.object_, "FP32": np.float32, "INT32": np.int32, "UINT64": np.uint64}


@dataclass(frozen=True)
class Response:
    text: str
    token_ids: list[int]
    event: Any  # the record, or None
    num_input_tokens: int
    num_output_tokens: int
    final: bool


class TritonRefused(Exception):
    """An error response: Triton's text, and the error that we find in it."""

    def __init__(self, raised: InferenceServerException) -> None:
        super().__init__(raised.message())
        self.text = raised.message()
        self.error = errors.from_wire(self.text)


class Stream:
    """One request on a gRPC stream of its own."""

    def __init__(self, url: str, model: str, request_id: str, inputs: list[grpcclient.InferInput]) -> None:
        self._answers: queue.SimpleQueue[tuple[Any, InferenceServerException | None]] = queue.SimpleQueue()
        self._ended = False
        self._client = grpcclient.InferenceServerClient(url)
        # Not with the header `triton_grpc_error`: a few refusals at the same time crash Triton 2.51 with it.
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))
        self._client.async_stream_infer(
            model, inputs, request_id=request_id, enable_empty_final_response=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __iter__(self) -> Iterator[Response]:
        """Responses up to the final one."""
        while True:
            response = self.next()
            yield response
            if response.final:
                return

    def next(self) -> Response:
        """Raises:
        TritonRefused: an error response came.
        queue.Empty: nothing came in DEADLINE_S.
        """
        result, error = self._answers.get(timeout=DEADLINE_S)
        if error is not None:
            self._ended = True
            raise TritonRefused(error)
        event = result.as_numpy(wire.EVENT.name)[0]
        self._ended = result.get_response().parameters["triton_final_response"].bool_param
        return Response(
            text=result.as_numpy(wire.TEXT_OUTPUT.name)[0].decode(),
            token_ids=result.as_numpy(wire.TOKEN_IDS.name).tolist(),
            event=wire.decode(event, wire.Event) if event else None,
            num_input_tokens=int(result.as_numpy(wire.NUM_INPUT_TOKENS.name)[0]),
            num_output_tokens=int(result.as_numpy(wire.NUM_OUTPUT_TOKENS.name)[0]),
            final=self._ended,
        )

    def disconnect(self) -> None:
        """Leave as a client that was killed does, if there is something to leave: cancelling a stream that has
        just ended makes Triton 2.51 count its request for ever, and the model can no longer be unloaded."""
        self._client.stop_stream(cancel_requests=not self._ended)
        self._client.close()


class DirectClient:
    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, model: str = ENSEMBLE, request_id: str = "", **tensors: Any) -> Stream:
        """Send tensors by name: str or bytes, a number, a record, or a list of them."""
        return Stream(
            self._url, model, request_id, [input_tensor(name, value) for name, value in tensors.items()]
        )

    def ask(self, model: str = ENSEMBLE, request_id: str = "", **tensors: Any) -> list[Response]:
        """All responses to one request."""
        with self.open(model, request_id, **tensors) as stream:
            return list(stream)

    def control(self, command: wire.Control) -> Any:
        """The one event that answers Cancel or Ping."""
        (response,) = self.ask(ENGINE, control=command)
        return response.event

    def load(self) -> wire.Load:
        load = self.control(wire.Ping())
        assert isinstance(load, wire.Load)
        return load


class ModelControl:
    """Loads and unloads the engine model, with the server's key."""

    def __init__(self, server: TritonServer) -> None:
        self._client = grpcclient.InferenceServerClient(server.grpc_url)
        self._headers = {wire.GRPC_CONTROL_KEY_HEADER: server.control_key}

    def unload(self) -> None:
        self._client.unload_model(ENGINE, headers=self._headers)

    def load(self) -> None:
        self._client.load_model(ENGINE, headers=self._headers)

    def state(self) -> str:
        """As Triton's index has it: READY, UNLOADING, UNAVAILABLE …"""
        index = self._client.get_model_repository_index(headers=self._headers)
        return next(model.state for model in index.models if model.name == ENGINE)


def input_tensor(name: str, value: Any) -> grpcclient.InferInput:
    """One tensor of the wire: str or bytes, a number, a record, or a list of them."""
    spec = _SPECS[name]
    values = [_element(v) for v in (value if isinstance(value, list) else [value])]
    shape = [len(values) if size == -1 else size for size in spec.dims]
    tensor = grpcclient.InferInput(name, shape, spec.dtype)
    tensor.set_data_from_numpy(np.array(values, dtype=_NUMPY[spec.dtype]).reshape(shape))
    return tensor


def _element(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, (bytes, bool, int, float)) else wire.encode(value)
