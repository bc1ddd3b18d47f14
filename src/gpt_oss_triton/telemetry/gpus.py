"""The GPUs of this machine through NVML, read in a thread of its own: a driver call may take long."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pynvml

log = logging.getLogger(__name__)

_EVERY_S = 5.0


class Gpus:
    """Polls between `start` and `stop`; on a machine without NVML it does nothing.

    Args:
        nvml: the binding.
    """

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._figures: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)

    def figures(self) -> list[dict[str, Any]]:
        """Of each GPU, as last read: index, name, utilization (0..1), memory in bytes; None where the
        driver does not tell."""
        return self._figures

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it may be inside the driver, so nobody waits for it."""
        self._stopping.set()

    def _run(self) -> None:
        nvml = self._nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            log.debug("no GPU figures: %s", error)
            return
        try:
            while True:
                self._poll()
                if self._stopping.wait(_EVERY_S):
                    return
        finally:
            nvml.nvmlShutdown()

    def _poll(self) -> None:
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            self._figures = [self._of(index, handle) for index, handle in enumerate(handles)]
        except nvml.NVMLError as error:  # a GPU was lost
            if self._figures:
                log.warning("the GPUs cannot be read any more: %s", error)
            self._figures = []

    def _of(self, index: int, handle: Any) -> dict[str, Any]:
        nvml = self._nvml
        busy = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        return {
            "index": index,
            "name": str(self._ask(nvml.nvmlDeviceGetName, handle) or "GPU"),
            "utilization": None if busy is None else busy.gpu / 100,
            "memory_used_bytes": None if memory is None else int(memory.used),
            "memory_total_bytes": None if memory is None else int(memory.total),
        }

    def _ask(self, question: Any, handle: Any) -> Any:
        """None for what this GPU does not tell: one that is split into instances has no utilization."""
        try:
            return question(handle)
        except self._nvml.NVMLError_NotSupported:
            return None
        except self._nvml.NVMLError_NoPermission:
            return None
