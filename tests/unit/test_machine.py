from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt_oss_triton.machine import available_cores


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
