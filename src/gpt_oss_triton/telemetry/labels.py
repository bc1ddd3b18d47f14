"""The values that metric labels may take: few, known, and never what a client wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.wire import Load

UNKNOWN = "unknown"
OTHER = "other"


@dataclass(frozen=True, slots=True)
class EngineLabels:
    """What the metrics say of the engine that ran a request."""

    model_size: str = UNKNOWN  # "20b", "120b"
    dtype: str = UNKNOWN
    tp: str = UNKNOWN  # GPUs of tensor parallelism,
    pp: str = UNKNOWN  # and of pipeline parallelism
    gpu_mode: str = UNKNOWN
    engine: str = UNKNOWN
    profile: str = UNKNOWN

    @classmethod
    def of(cls, ensemble: str, load: Load) -> Self:
        """Those of the engine behind an ensemble such as `gpt-oss-20b`."""
        return cls(
            model_size=ensemble.rpartition("-")[2],
            dtype=load.dtype,
            tp=str(load.tensor_parallel),
            pp=str(load.pipeline_parallel),
            gpu_mode=load.gpu_mode,
            engine=load.engine,
            profile=load.profile,
        )


LabelsOf = Callable[[RequestRecord], EngineLabels]


class Vocabulary:
    """Takes the first values that it meets, up to `limit`, and calls all later ones `other`.

    For labels whose values come from another part of the server: they are a fixed few there, and stay few
    here whatever happens there."""

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) < self._limit:
            self._known.add(value)
            return value
        return OTHER
