"""A real tritonserver for the whole session, on a checkpoint with random weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt_oss_triton.demo.packed import expand
from gpt_oss_triton.launch.demo import ENGINE_PRESETS
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e import random_answers
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY, DirectClient, ModelControl

SCRIPT = Path(__file__).with_name("scripted_answers.jsonl")


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoint: Callable[[str], Path]) -> Path:
    """In fp32, where greedy tokens are the same in every batch."""
    return checkpoint("fp32")


@pytest.fixture(scope="session")
def engine_environment(tiny_checkpoint: Path) -> dict[str, str]:
    """An engine small enough to share a laptop with the tests."""
    return {
        "GPT_OSS_CHECKPOINT_20B": str(tiny_checkpoint),
        "GPT_OSS_KV_CACHE_GIB": "0.05",
        "GPT_OSS_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def triton(
    engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A running server with `gpt-oss-20b`. Who unloads a model or ends a stub brings it back."""
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path_factory.mktemp("triton") / "tritonserver.log",
        environment=engine_environment,
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A running server with `gpt-oss-20b` and no model behind it: its answers are `scripted_answers.jsonl`'s and those
    of `random_answers.py`."""
    script = tmp_path_factory.mktemp("script") / "answers.jsonl"
    script.write_text(
        SCRIPT.read_text() + "".join(json.dumps(rule) + "\n" for rule in random_answers.rules())
    )
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path_factory.mktemp("scripted") / "tritonserver.log",
        environment={
            "GPT_OSS_ENGINE": "scripted",
            "GPT_OSS_SCRIPT": str(script),
            "GPT_OSS_DELIVERY_INTERVAL_S": "0",  # so quick an engine's answers would come in one piece
            "OMP_NUM_THREADS": "1",
        },
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture(scope="module")
def scripted_shim(scripted: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(scripted) as process:
        yield process


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A running server with the demo model as `gpt-oss-20b`: one that thinks, calls and ends by itself."""
    directory = tmp_path_factory.mktemp("demo")
    expand(directory / "checkpoint")
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=directory / "tritonserver.log",
        environment={
            "GPT_OSS_CHECKPOINT_20B": str(directory / "checkpoint"),
            **{f"GPT_OSS_{name.upper()}": str(value) for name, value in ENGINE_PRESETS.items()},
            "GPT_OSS_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture
def started_anew(triton: TritonServer) -> Iterator[None]:
    """For a test that leaves the server with a dead stub: the next one finds another server."""
    yield
    triton.terminate()
    triton.start()
    triton.wait_ready(READY_S)


@pytest.fixture
def client(triton: TritonServer) -> DirectClient:
    return DirectClient(triton.grpc_url)


@pytest.fixture
def until() -> Callable[[Callable[[], bool], str], None]:
    """Wait for a condition; fail with what was waited for."""

    def wait(condition: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {deadline_s:.0f} s: {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture
def model_control(triton: TritonServer) -> ModelControl:
    return ModelControl(triton)
