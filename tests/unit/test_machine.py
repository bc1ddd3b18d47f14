from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt_oss_triton.machine import available_cores, available_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", len(os.sched_getaffinity(0))),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100000000 100000", len(os.sched_getaffinity(0))),
        ("garbage", len(os.sched_getaffinity(0))),
    ],
)
def test_quota_and_affinity(text: str, expected: int, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text + "\n")
    assert available_cores(quota) == expected


def test_without_control_groups(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8192),
        ({"memory.max": "max"}, 8192),
        ({"memory.max": "5000", "memory.current": "4000"}, 1000 + 300 + 200),
        ({"memory.max": "4000", "memory.current": "4600"}, 0),
        ({"memory.max": "90000", "memory.current": "4000"}, 8192),
        ({"memory.max": "garbage"}, 8192),
    ],
)
def test_memory_of_the_system_and_of_the_group(files: dict[str, str], expected: int, tmp_path: Path) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:  16 kB\nMemAvailable:   8 kB\n")
    stat = "anon 100\nfile 700\ninactive_file 300\nactive_file 200"  # what was read is given up when needed
    for name, content in {"memory.stat": stat, **files}.items():
        (tmp_path / name).write_text(content + "\n")
    assert available_memory(memory, tmp_path) == expected
