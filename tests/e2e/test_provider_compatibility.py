"""OpenAI's own check of gpt-oss providers (`compatibility-test` of openai/gpt-oss), unmodified, on scripted answers.

`COMPATIBILITY_TEST` is that directory, after `npm ci` and `npm install --no-save tsx`, which its start script needs and
its lock file lacks. Its only provider is `http://localhost:8000`, so that port must be free.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY

pytestmark = pytest.mark.slow

CHECKOUT = os.environ.get("COMPATIBILITY_TEST")
PORT = 8000
MODEL = "openai/gpt-oss-120b"
CASES = 30
LIMIT_S = 300
RESULT = "<|channel|>analysis<|message|>Now I know.<|end|><|start|>assistant<|channel|>final<|message|>Here it is.<|return|>"


def call(case: dict[str, Any]) -> str:
    """What a model says that thinks and then calls the case's tool as expected."""
    return (
        f"<|channel|>analysis<|message|>I call {case['tool_name']}.<|end|><|start|>assistant"
        f"<|channel|>commentary to=functions.{case['tool_name']} <|constrain|>json<|message|>"
        f"{case['expected_arguments']}<|call|>"
    )


def rules(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    asked = [
        {"role": "user", "contains": case["input"], "text": call(case), "chunk": [1, 2]} for case in cases
    ]
    return [*asked, {"role": "functions.", "text": RESULT}]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy, because it writes its results beside itself."""
    if not CHECKOUT:
        pytest.skip("set COMPATIBILITY_TEST to the directory compatibility-test of openai/gpt-oss")
    if not is_free(PORT):
        pytest.skip(f"port {PORT} is taken, and the test can ask no other")
    copy = tmp_path / "compatibility-test"
    shutil.copytree(CHECKOUT, copy, symlinks=True)
    return copy


@pytest.fixture
def served(checkout: Path, tmp_path: Path) -> Iterator[None]:
    script = tmp_path / "answers.jsonl"
    cases = [json.loads(line) for line in (checkout / "cases.jsonl").read_text().splitlines() if line.strip()]
    script.write_text("\n".join(json.dumps(rule) for rule in rules(cases)))
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path / "tritonserver.log",
        environment={"GPT_OSS_ENGINE": "scripted", "GPT_OSS_SCRIPT": str(script)},
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        with ShimProcess(server, port=PORT, models={MODEL: ENSEMBLE}):
            yield


def test_every_case_passes_over_chat_and_responses(served: None, checkout: Path) -> None:
    command = [checkout / "node_modules" / ".bin" / "tsx", "index.ts", "--provider", "vllm", "--strict"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    (rollout,) = checkout.glob("rollout_*.jsonl")
    rows = [json.loads(line) for line in rollout.read_text().splitlines()]
    assert [row for row in rows if "error" in row] == [], done.stdout  # which its own summary leaves out
    for api in ("chat", "responses"):
        results = [row["result"] for row in rows if row["result"]["apiType"] == api]
        assert len(results) == CASES
        assert [result for result in results if not (result["success"] and result["validResponse"])] == []
