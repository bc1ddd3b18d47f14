"""vLLM behind the shim, inside a real tritonserver.

`VLLM_PYTHON` is the Python that vLLM is installed for; its minor version must be this one's, whose stub Triton runs.
`VLLM_CHECKPOINT` is a bf16 checkpoint of gpt-oss with heads that vLLM takes; without it, one is made.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import gpt_oss_triton
from gpt_oss_triton.checkpoint import build_checkpoint
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, REPOSITORY

pytestmark = pytest.mark.slow

READY_S = 300.0  # vLLM starts three processes, which import torch one after the other
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def ask(python: str, expression: str) -> str:
    code = f"import sys, sysconfig; print({expression})"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment of three: vLLM's packages, this project, and the NumPy that Triton's stub was built for."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("vLLM is not installed: set VLLM_PYTHON to a Python that has it")
    found = ask(python, "'%d.%d' % sys.version_info[:2]")
    if found != VERSION:
        pytest.skip(f"vLLM is installed for Python {found}, and Triton runs {VERSION} here")
    directory = tmp_path_factory.mktemp("vllm-in-triton") / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", directory], check=True)
    packages = directory / "lib" / f"python{VERSION}" / "site-packages"
    numpy = Path(np.__file__).parent
    for package in (numpy, numpy.with_name("numpy.libs")):
        (packages / package.name).symlink_to(package)  # found before vLLM's own
    others = [ask(python, "sysconfig.get_path('purelib')"), str(Path(gpt_oss_triton.__file__).parents[1])]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return directory


@pytest.fixture(scope="module")
def shim(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    directory = tmp_path_factory.mktemp("vllm-server")
    checkpoint = os.environ.get("VLLM_CHECKPOINT")
    if not checkpoint:
        checkpoint = str(directory / "checkpoint")
        build_checkpoint("bench", "bf16", 0, Path(checkpoint))
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=directory / "tritonserver.log",
        environment={
            "PATH": os.pathsep.join([str(environment / "bin"), os.environ["PATH"]]),
            "GPT_OSS_ENGINE": "vllm",
            "GPT_OSS_CHECKPOINT_20B": checkpoint,
            "GPT_OSS_KV_CACHE_GIB": "0.2",
            "GPT_OSS_MAX_CONTEXT": "2048",
            "GPT_OSS_MAX_SEQUENCES": "8",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        },
        exit_timeout_s=30,
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        with ShimProcess(server) as process:
            yield process


def chat(shim: ShimProcess, text: str) -> dict[str, Any]:
    body = {
        "model": ENSEMBLE,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        "temperature": 0,
    }
    answer = httpx.post(f"{shim.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_chat_is_answered_by_vllm(shim: ShimProcess) -> None:
    first, again = chat(shim, "Tell me of the sea."), chat(shim, "Tell me of the sea.")
    assert 1 <= first["usage"]["completion_tokens"] <= 8
    assert first["choices"][0]["message"] == again["choices"][0]["message"]
    load = httpx.get(f"{shim.url}/stats").json()["engines"][0]["load"]
    assert (load["engine"], load["dtype"], load["device"]) == ("vllm", "bfloat16", "cpu")
    assert load["output_tokens"] >= 2


def test_what_vllm_lacks_is_refused(shim: ShimProcess) -> None:
    body = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "Hi"}], "logprobs": True}
    answer = httpx.post(f"{shim.url}/v1/chat/completions", json=body, timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logprobs")
