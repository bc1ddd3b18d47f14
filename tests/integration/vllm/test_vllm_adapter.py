"""The vLLM adapter under the engine's contract, in the environment that vLLM is installed in.

`VLLM_PYTHON` is that environment's Python; without it, the one that this runs in. `VLLM_CHECKPOINT` is a bf16
checkpoint of gpt-oss with heads that vLLM takes; without it, one is made.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_oss_triton.checkpoint import build_checkpoint
from tests.integration.vllm import vllm_contract

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PYTHON = os.environ.get("VLLM_PYTHON") or (sys.executable if importlib.util.find_spec("vllm") else None)
LIMIT_S = 500


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """check -> what was wrong, or None."""
    if PYTHON is None:
        pytest.skip("vLLM is not installed: set VLLM_PYTHON to a Python that has it")
    directory = tmp_path_factory.mktemp("vllm")
    checkpoint = os.environ.get("VLLM_CHECKPOINT")
    if not checkpoint:
        checkpoint = str(directory / "checkpoint")
        build_checkpoint("bench", "bf16", 0, Path(checkpoint), None)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    }
    with (directory / "vllm.log").open("w+") as log:
        done = subprocess.run(
            [PYTHON, vllm_contract.__file__, checkpoint],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            timeout=LIMIT_S,
            check=False,
        )
        log.seek(0)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows, log.read()[-4000:]
    return {row["check"]: row["fault"] for row in rows}


@pytest.mark.parametrize("name", [check.__name__ for checks in vllm_contract.LIVES for check in checks])
def test_the_adapter_keeps_the_contract(faults: dict[str, str | None], name: str) -> None:
    assert name in faults, "vLLM did not come this far"
    assert faults[name] is None, faults[name]
