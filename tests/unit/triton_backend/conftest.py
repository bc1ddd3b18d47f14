"""Outside of Triton there is no `triton_python_backend_utils`: its C++ half lives in the stub's process.
This is the least of it that the modules under test touch; tests/e2e runs them on the real one."""

from __future__ import annotations

import math
import sys
import types
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest


class Tensor:
    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self._array

    def to_dlpack(self) -> np.ndarray[Any, Any]:
        return self._array

    @staticmethod
    def from_dlpack(name: str, capsule: np.ndarray[Any, Any]) -> Tensor:
        return Tensor(name, capsule)


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, CANCELLED = range(6)

    def __init__(self, message: str, code: int) -> None:
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self.tensors = {t.name(): t.as_numpy() for t in output_tensors}
        self.error = error


class Logger:
    errors: ClassVar[list[str]] = []

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.errors.append(message)


class Metric:
    """Refuses what Triton refuses, where a refusal may end the whole server."""

    def __init__(self, family: MetricFamily, labels: dict[str, str], buckets: list[float] | None) -> None:
        assert (buckets is not None) == (family.kind == "histogram")
        assert buckets is None or buckets == sorted(set(buckets))
        self.labels, self.value = labels, [] if buckets else 0.0
        self._name, self._kind = family.name, family.kind

    def set(self, value: float) -> None:
        assert self._kind == "gauge"
        self._record("set", value)
        self.value = value

    def increment(self, value: float) -> None:
        assert self._kind == "counter"
        assert value >= 0
        self._record("increment", value)
        self.value += value

    def observe(self, value: float) -> None:
        assert self._kind == "histogram"
        self._record("observe", value)
        self.value.append(value)

    def _record(self, operation: str, value: float) -> None:
        assert math.isfinite(value)
        MetricFamily.calls.append((self._name, operation, value))

    def __del__(self) -> None:
        MetricFamily.deleted.append(("metric", self._name))


class MetricFamily:
    """What it is told is kept for the test: `live` metrics by name, `calls` on them, what was `deleted`."""

    GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
    live: ClassVar[weakref.WeakValueDictionary[str, Metric]] = weakref.WeakValueDictionary()
    calls: ClassVar[list[tuple[str, str, float]]] = []
    deleted: ClassVar[list[tuple[str, str]]] = []
    refused: ClassVar[set[str]] = set()

    def __init__(self, *, name: str, description: str, kind: str) -> None:
        assert description
        if name in self.refused:
            raise TritonModelException(f"Family name {name} already exists with different type")
        self.name, self.kind = name, kind

    def Metric(self, *, labels: dict[str, str], buckets: list[float] | None = None) -> Metric:  # noqa: N802
        metric = self.live[self.name] = Metric(self, labels, buckets)
        return metric

    def __del__(self) -> None:
        if hasattr(self, "name"):
            self.deleted.append(("family", self.name))


class TritonModelException(Exception):
    pass


class ResponseSender:
    """Records what is sent, and refuses what Triton's refuses."""

    def __init__(self) -> None:
        self.sent: list[InferenceResponse] = []
        self.finals = 0
        self.cancelled = False
        self.broken = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.broken:
            raise RuntimeError("the server has gone")
        assert not self.finals, "a response after the final one"
        self.finals += flags
        if response is not None:
            self.sent.append(response)

    def is_cancelled(self) -> bool:
        assert not self.finals, "the sender was freed with its final response"
        return self.cancelled


class Request:
    def __init__(self, request_id: str = "", **tensors: np.ndarray[Any, Any]) -> None:
        self._id = request_id
        self._tensors = [Tensor(name, array) for name, array in tensors.items()]
        self.sender = ResponseSender()

    def request_id(self) -> str:
        return self._id

    def inputs(self) -> list[Tensor]:
        return self._tensors

    def get_response_sender(self) -> ResponseSender:
        return self.sender


_fake = types.ModuleType("triton_python_backend_utils")
_fake.__dict__.update(
    Tensor=Tensor,
    TritonError=TritonError,
    InferenceResponse=InferenceResponse,
    Logger=Logger,
    MetricFamily=MetricFamily,
    TritonModelException=TritonModelException,
    TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
)
sys.modules.setdefault("triton_python_backend_utils", _fake)


@pytest.fixture
def triton_request() -> type[Request]:
    """Makes requests: `triton_request("id", name=array)`."""
    return Request


@pytest.fixture
def custom_metrics() -> type[MetricFamily]:
    """The metrics that were made and what was done to them."""
    MetricFamily.live.clear()
    MetricFamily.calls.clear()
    MetricFamily.deleted.clear()
    MetricFamily.refused.clear()
    return MetricFamily


@pytest.fixture
def logged() -> list[str]:
    """Error lines in Triton's log."""
    Logger.errors = []
    return Logger.errors
