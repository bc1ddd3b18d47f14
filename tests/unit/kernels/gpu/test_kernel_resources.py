"""The kernels compile for the GPUs they are meant for, without one, and fit them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_kernel_compiles_and_fits(tmp_path: Path) -> None:
    """In a process of its own: this one interprets. That the launches get through with tensors that have no
    memory also shows that none of them reads a value back, which a CUDA graph could not capture."""
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "gpt_oss_triton.bench.kernel_resources"]
    told = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "launch"]
    compiled = {row[1].strip("`") for row in rows}
    assert compiled == {
        "_attend_split", "_attend_tile", "_down", "_gate_up", "_grouped_product",
        "_join_splits", "_mix", "_rms_norm", "_rotate_and_store", "_route", "_sort_by_expert", "_to_planes",
    }  # fmt: skip
    for name, kernel, _, spilled, _, _, programs, ftz in rows:
        assert int(spilled) <= 64, f"{name}: {kernel} keeps {spilled} bytes a thread in slow memory"
        assert int(programs) >= 1, f"{name}: {kernel} does not fit a multiprocessor"
        if kernel.strip("`") in ("_down", "_gate_up", "_grouped_product"):
            assert ftz == "no", f"{kernel} flushes subnormals, so that 0.5 in MXFP4 becomes 0"
