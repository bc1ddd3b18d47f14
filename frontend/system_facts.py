"""The machine and the installation that the shim runs on. Names what it tells, and tells nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
import threading
from collections.abc import Mapping
from typing import Any

import psutil

from gpt_oss_triton.machine import available_cores, available_memory

_DISTRIBUTION = "gpt-oss-triton"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FOR_DEVELOPERS = re.compile(r"extra == .dev.")
_ASKED_FOR_BY_OTHERS = ("grpcio", "starlette", "triton")
# Variables that change how we run, and that hold no secrets. Of all others not even the names are told.
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "NCCL_DEBUG",
    "NCCL_IB_DISABLE",
    "NCCL_P2P_DISABLE",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_EXPORTER",
    "TOKENIZERS_PARALLELISM",
    "TZ",
)


def versions() -> dict[str, str]:
    """What is installed of what this project needs to run, by name. Reads many files."""
    try:
        wanted = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        wanted = []
    needed = [requirement for requirement in wanted if not _FOR_DEVELOPERS.search(requirement)]
    names = {match[0] for requirement in needed if (match := _NAME.match(requirement))}
    found = {name: _version(name) for name in sorted(names.union(_ASKED_FOR_BY_OTHERS))}
    return {"python": sys.version.split()[0], _DISTRIBUTION: _version(_DISTRIBUTION), **found}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """The machine, and what this process uses of it."""
    process = psutil.Process()
    memory = psutil.virtual_memory()
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "cores_available": available_cores(),
        "load_average": os.getloadavg(),
        "memory_total_bytes": memory.total,
        "memory_available_bytes": available_memory(),
        "shared_memory": _disk("/dev/shm"),  # noqa: S108 - Triton's, to be looked at
        "process": {
            "pid": process.pid,
            "started": process.create_time(),
            "rss_bytes": process.memory_info().rss,
            "cpu_s": sum(process.cpu_times()[:2]),
            "threads": threading.active_count(),
            "descriptors": process.num_fds(),
            "descriptors_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "connections": _connections(process),
        },
        "environment": {name: environment[name] for name in _VARIABLES if name in environment},
    }


def _disk(path: str) -> dict[str, int] | None:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return {"total_bytes": usage.total, "used_bytes": usage.used}


def _connections(process: psutil.Process) -> dict[str, int]:
    """TCP connections by state; whose they are is not told."""
    counts: dict[str, int] = {}
    try:
        for connection in process.net_connections(kind="tcp"):
            counts[connection.status] = counts.get(connection.status, 0) + 1
    except psutil.AccessDenied:
        return {}
    return counts
