"""An engine of two processes inside a real tritonserver."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest
from tests.e2e.triton_direct_client import (
    ENSEMBLE,
    READY_S,
    REPOSITORY,
    DirectClient,
    ModelControl,
    TritonRefused,
)

PROMPT = PromptRequest([Message("user", "Count to ten.")])
OPTIONS = GenerationOptions(max_tokens=24, temperature=0, ignore_eos=True)


@pytest.fixture
def spread(engine_environment: dict[str, str], tmp_path: Path) -> Iterator[TritonServer]:
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path / "tritonserver.log",
        environment={**engine_environment, "GPT_OSS_GPU_MODE": "tensor", "GPT_OSS_PARALLEL_RANKS": "2"},
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


def children(pid: int) -> list[int]:
    """That are ranks of an engine."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return [c for c in found if b"parallel.worker" in Path(f"/proc/{c}/cmdline").read_bytes()]


def test_answers_a_lost_rank_and_unloading(
    spread: TritonServer,
    client: DirectClient,
    until: Callable[[Callable[[], bool], str], None],
) -> None:
    """The same answer as one process gives; a killed rank is an error with a reason; a new load serves again."""
    ours = DirectClient(spread.grpc_url)
    (want,), (got,) = (one.ask(prompt=PROMPT, options=OPTIONS) for one in (client, ours))
    assert got.token_ids == want.token_ids
    load = ours.load()
    assert (load.gpu_mode, load.tensor_parallel) == ("tensor", 2)

    (rank,) = children(load.pid)
    os.kill(rank, signal.SIGKILL)
    with pytest.raises(TritonRefused) as lost:
        ours.ask(prompt=PROMPT, options=OPTIONS)
    assert isinstance(lost.value.error, EngineUnavailable)
    assert "rank 1 of the model: the process was ended by SIGKILL" in lost.value.text

    control = ModelControl(spread)
    control.unload()
    until(lambda: control.state() == "UNAVAILABLE", "the engine is unloaded")
    control.load()
    again = ours.load()
    (rank,) = children(again.pid)
    (after,) = ours.ask(prompt=PROMPT, options=OPTIONS)
    assert after.token_ids == want.token_ids
    control.unload()
    until(lambda: not Path(f"/proc/{rank}").exists(), "the rank has ended with its engine")
