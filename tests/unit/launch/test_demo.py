from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from gpt_oss_triton.launch import demo
from gpt_oss_triton.launch.signals import Stopped


def test_a_stop_ends_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Stopped):
        demo.demo_checkpoint(tmp_path, said.append, lambda: True)
    assert said == ["building the demo checkpoint (once)"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo.lock"]


def test_a_stop_ends_the_wait_for_another_build(tmp_path: Path) -> None:
    with (tmp_path / "demo.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stopped):
            demo.demo_checkpoint(tmp_path, lambda _: None, lambda: True)
