"""OpenAI's own check of gpt-oss providers (`compatibility-test` of openai/gpt-oss), unmodified: on scripted answers to the
letter, and with the demo model, which calls by itself.

`COMPATIBILITY_TEST` is that directory, after `npm ci` and `npm install --no-save tsx`, which its start script needs and
its lock file lacks. Its only provider is `http://localhost:8000`, so that port must be free. Streamed, its provider is set to chat
alone, because with Responses it fails on every server: the locked version of its SDK leaves out of a streamed response
what the test then looks into.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.launch.demo import FRONTEND_PRESETS
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY

pytestmark = pytest.mark.slow

CHECKOUT = os.environ.get("COMPATIBILITY_TEST")
PORT = 8000
MODEL = "openai/gpt-oss-120b"
WHOLE, STREAMED = ("responses", "chat"), ("chat",)
CASES, TRIES = 30, 5
LIMIT_S = 600
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
def scripted_cases(checkout: Path, tmp_path: Path) -> Iterator[None]:
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


def examined(checkout: Path, apis: tuple[str, ...], *options: str) -> list[dict[str, Any]]:
    """Its rows: one for each case, try and API, or with an `error` for a try that ended in one."""
    providers = checkout / "providers.ts"
    text = providers.read_text()
    assert json.dumps(WHOLE) in text
    providers.write_text(text.replace(json.dumps(WHOLE), json.dumps(apis)))
    command = [checkout / "node_modules" / ".bin" / "tsx", "index.ts", "--provider", "vllm", *options]
    if apis == STREAMED:
        command.append("--streaming")
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert "Summary:" in done.stdout, done.stderr
    (rollout,) = checkout.glob("rollout_*.jsonl")
    sys.stdout.write(done.stdout[done.stdout.index("Summary:") :])  # which leaves out what ended in an error
    return [json.loads(line) for line in rollout.read_text().splitlines()]


@pytest.mark.parametrize("apis", [WHOLE, STREAMED], ids=["whole", "streamed"])
def test_every_case_passes(scripted_cases: None, checkout: Path, apis: tuple[str, ...]) -> None:
    rows = examined(checkout, apis, "--strict")
    assert [row for row in rows if "error" in row] == []
    results = [row["result"] for row in rows]
    assert sorted(result["apiType"] for result in results) == sorted(apis * CASES)
    assert [result for result in results if not (result["success"] and result["validResponse"])] == []


@pytest.mark.parametrize("apis", [WHOLE, STREAMED], ids=["whole", "streamed"])
def test_every_answer_of_the_demo_model_is_valid(
    demo: TritonServer, checkout: Path, apis: tuple[str, ...]
) -> None:
    """How many cases it passes by itself is a figure of docs/demo-model.md: it was not taught schemas this long."""
    with ShimProcess(demo, port=PORT, models={MODEL: ENSEMBLE}, **FRONTEND_PRESETS):
        rows = examined(checkout, apis, "--tries", str(TRIES))
    results = [row["result"] for row in rows if "error" not in row]
    assert {result["apiType"] for result in results} == set(apis)
    assert all(result["validResponse"] for result in results)
