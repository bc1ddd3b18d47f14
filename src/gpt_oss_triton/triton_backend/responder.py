"""Writes one request's responses to Triton."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import triton_python_backend_utils as pb_utils

from gpt_oss_triton import wire
from gpt_oss_triton.errors import ServiceError, to_wire


class Responder:
    """One request's response sender, which must be ended exactly once, and never used after.

    Each call is a round trip to the server process. Thread-safe: Triton frees its side of the sender
    with the final response, so the cancellation poll of another thread must not cross it.
    """

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        self._lock = threading.Lock()
        self._ended = False

    def send(
        self,
        *,
        text: str = "",
        token_ids: Sequence[int] = (),
        event: msgspec.Struct | None = None,
        num_input_tokens: int = 0,
        num_output_tokens: int = 0,
        final: bool = False,
    ) -> None:
        """All five outputs; `final` rides on the last response that carries data, because clients of
        tritonclient's asyncio flavour never see an empty final one."""
        tensors = [
            _tensor(wire.TEXT_OUTPUT, np.array([text.encode()], dtype=np.object_)),
            _tensor(wire.TOKEN_IDS, np.array(token_ids, dtype=np.int32)),
            _tensor(wire.EVENT, np.array([b"" if event is None else wire.encode(event)], dtype=np.object_)),
            _tensor(wire.NUM_INPUT_TOKENS, np.array([num_input_tokens], dtype=np.int32)),
            _tensor(wire.NUM_OUTPUT_TOKENS, np.array([num_output_tokens], dtype=np.int32)),
        ]
        self._send(pb_utils.InferenceResponse(tensors), final=final)

    def fail(self, error: ServiceError) -> None:
        """The final response: an error."""
        self._send(pb_utils.InferenceResponse(error=triton_error(error)), final=True)

    def abort(self, error: ServiceError) -> None:
        """End with an error if that is still possible. Does not raise: where it is not, the client or Triton
        itself has gone, and nobody is left to tell."""
        with contextlib.suppress(Exception):
            self.fail(error)

    def end(self) -> None:
        """Only the final flag, for a client that has gone. Does nothing after a final response."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Whether the client has gone or cancelled. Always False behind an ensemble, which does not tell."""
        with self._lock:
            return not self._ended and bool(self._sender.is_cancelled())

    def _send(self, response: Any, *, final: bool) -> None:
        with self._lock:
            if self._ended:
                raise RuntimeError("a response after the final one")
            self._ended = final
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)


def triton_error(error: ServiceError) -> Any:
    """The `TritonError` that carries `error` to the client."""
    return pb_utils.TritonError(to_wire(error), getattr(pb_utils.TritonError, error.triton_code))


def _tensor(spec: wire.TensorSpec, array: np.ndarray[Any, Any]) -> Any:
    return pb_utils.Tensor(spec.name, array)
