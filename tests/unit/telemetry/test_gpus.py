"""Figures of the GPUs, from a driver that tells all, some or nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gpt_oss_triton.telemetry import gpus
from gpt_oss_triton.telemetry.gpus import Gpus


class FakeNvml:
    """The part of the binding that is used."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801 - the binding's name
        pass

    class NVMLError_NoPermission(NVMLError):  # noqa: N801
        pass

    def __init__(self, count: int, *, split: bool = False) -> None:
        self.count, self.split = count, split
        self.lost = False
        self.polls, self.ended = threading.Semaphore(0), threading.Event()

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.count:
            raise self.NVMLError("no driver")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.ended.set()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self.polls.release()
        if self.lost:
            raise self.NVMLError("GPU is lost")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"GPU {handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        if self.split:
            raise self.NVMLError_NotSupported
        return SimpleNamespace(gpu=25 + handle, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=1000, total=4000)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_EVERY_S", 0.001)


def watch(nvml: FakeNvml, polls: int = 2) -> Gpus:
    watched = Gpus(nvml)
    watched.start()
    for _ in range(polls):  # the second poll begins when the first one's figures are there
        assert nvml.polls.acquire(timeout=30)
    return watched


def test_figures_of_each() -> None:
    nvml = FakeNvml(2)
    watched = watch(nvml)
    assert watched.figures() == [
        {"index": 0, "name": "GPU 0", "utilization": 0.25, "memory_used_bytes": 1000, "memory_total_bytes": 4000},
        {"index": 1, "name": "GPU 1", "utilization": 0.26, "memory_used_bytes": 1000, "memory_total_bytes": 4000},
    ]  # fmt: skip
    watched.stop()
    assert nvml.ended.wait(30)


def test_what_the_driver_does_not_tell_is_none() -> None:
    watched = watch(FakeNvml(1, split=True))
    assert watched.figures()[0]["utilization"] is None
    assert watched.figures()[0]["memory_used_bytes"] == 1000
    watched.stop()


def test_a_lost_gpu_is_no_figure() -> None:
    nvml = FakeNvml(1)
    watched = watch(nvml)
    assert watched.figures()
    nvml.lost = True
    for _ in range(3):
        assert nvml.polls.acquire(timeout=30)
    assert watched.figures() == []
    watched.stop()


def test_no_driver_no_figures() -> None:
    watched = Gpus(FakeNvml(0))
    watched.start()
    watched._thread.join(30)
    assert not watched._thread.is_alive()
    assert watched.figures() == []


def test_this_machine() -> None:
    """With the real binding, whatever is here."""
    watched = Gpus()
    watched.start()
    watched.stop()
    watched._thread.join(30)
    assert all(0 <= (gpu["utilization"] or 0) <= 1 for gpu in watched.figures())
