"""The embedded server as a process: how it starts, why it does not, and what it leaves behind."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from gpt_oss_triton import wire
from gpt_oss_triton.launch import shared_memory
from gpt_oss_triton.launch.triton_server import TritonFailed, TritonServer, TritonServerSettings
from tests.e2e.triton_direct_client import ENGINE, ENSEMBLE, READY_S, REPOSITORY

Until = Callable[[Callable[[], bool], str], None]


@pytest.fixture
def settings(tmp_path: Path) -> TritonServerSettings:
    """Of a server that loads the normalizer alone, which is quick."""
    return TritonServerSettings(
        model_repository=REPOSITORY,
        models=[wire.NORMALIZER_MODEL],
        log_file=tmp_path / "tritonserver.log",
        environment={"OMP_NUM_THREADS": "1"},
    )


def failure(settings: TritonServerSettings) -> str:
    """Why a server that cannot start did not."""
    with TritonServer(settings) as server:
        server.start()
        with pytest.raises(TritonFailed) as caught:
            server.wait_ready(READY_S)
        assert not server.poll()
        assert server.returncode != 0
    assert shared_memory.regions(server.shm_prefix) == []
    return str(caught.value)


def test_a_missing_checkpoint_is_one_readable_line(settings: TritonServerSettings, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    environment = {**settings.environment, "GPT_OSS_CHECKPOINT_20B": str(missing)}
    why = failure(replace(settings, models=[ENSEMBLE], environment=environment))
    assert f"{missing} does not exist" in why
    assert "Set GPT_OSS_CHECKPOINT_20B" in why
    assert "\n" not in why
    assert ".py(" not in why  # no stack trace


def test_a_broken_checkpoint_is_one_readable_line(settings: TritonServerSettings, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    environment = {**settings.environment, "GPT_OSS_CHECKPOINT_20B": str(tmp_path)}
    why = failure(replace(settings, models=[ENGINE], environment=environment))
    assert ENGINE in why
    assert str(tmp_path) in why
    assert "\n" not in why
    assert ".py(" not in why


def test_a_wrong_setting_is_named(settings: TritonServerSettings) -> None:
    environment = {**settings.environment, "GPT_OSS_PROMPT_DATE": "tomorrow"}
    assert "GPT_OSS_PROMPT_DATE" in failure(replace(settings, environment=environment))


def test_only_what_is_said_reaches_the_models(
    settings: TritonServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_OSS_PROMPT_DATE", "tomorrow")  # of this process, not of the server
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)


def test_a_server_comes_back_at_its_address(settings: TritonServerSettings, until: Until) -> None:
    progress: list[str] = []
    with TritonServer(settings) as server:
        addresses = (server.grpc_url, server.http_url, server.metrics_url)
        server.start()
        server.wait_ready(READY_S, progress.append)
        assert progress[0] == f"loading {wire.NORMALIZER_MODEL}"
        with pytest.raises(RuntimeError):
            server.start()
        with urllib.request.urlopen(server.metrics_url) as metrics:  # noqa: S310 - http, and ours
            assert b"nv_inference_request_success" in metrics.read()

        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.poll(), "the server is dead")
        server.terminate()
        assert shared_memory.regions(server.shm_prefix) == []
        server.start()
        server.wait_ready(READY_S)
        assert (server.grpc_url, server.http_url, server.metrics_url) == addresses
        server.terminate()
        assert server.returncode == 0
    assert shared_memory.regions(server.shm_prefix) == []


def test_models_are_controlled_only_with_the_key(settings: TritonServerSettings) -> None:
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        client = grpcclient.InferenceServerClient(server.grpc_url)
        for headers in ({}, {wire.GRPC_CONTROL_KEY_HEADER: "guess"}):
            with pytest.raises(InferenceServerException, match="restricted"):
                client.unload_model(wire.NORMALIZER_MODEL, headers=headers)
        client.unload_model(wire.NORMALIZER_MODEL, headers={wire.GRPC_CONTROL_KEY_HEADER: server.control_key})

        def index(headers: dict[str, str]) -> int:
            connection = http.client.HTTPConnection(server.http_url)
            connection.request("POST", "/v2/repository/index", body="{}", headers=headers)
            return connection.getresponse().status

        assert index({}) == 403
        assert index({wire.CONTROL_KEY_HEADER: server.control_key}) == 200


_STARTS_AND_WAITS = """
import sys, time
from pathlib import Path
from gpt_oss_triton import wire
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
server = TritonServer(TritonServerSettings(Path(sys.argv[1]), [wire.NORMALIZER_MODEL], Path(sys.argv[2])))
server.start()
server.wait_ready(float(sys.argv[3]))
print(server.pid, server.shm_prefix, flush=True)
time.sleep(3600)
"""


def test_the_server_dies_with_its_launcher(tmp_path: Path, until: Until) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", _STARTS_AND_WAITS, str(REPOSITORY), str(tmp_path / "log"), str(READY_S)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    pid, prefix = launcher.stdout.readline().split()
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    until(lambda: not is_running(int(pid)), "the server has gone")

    def swept() -> bool:  # the stubs notice a moment later
        shared_memory.sweep(prefix)
        return shared_memory.regions(prefix) == []

    until(swept, "nobody holds the shared memory")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
