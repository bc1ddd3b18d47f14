"""`scripts/serve` as its users meet it: the real launcher, tritonserver, engine and shim, with the demo model."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gpt_oss_triton.launch import shared_memory

pytestmark = pytest.mark.slow

READY_S = 120  # a deadline, not a wish: a loaded machine is slow
STOP_S = 60
ASK = {"model": "gpt-oss-demo", "messages": [{"role": "user", "content": "Hello"}]}


class Launcher:
    """One `scripts/serve` in the environment of the tests, with a cache directory of its own."""

    def __init__(self, cache: Path, *options: str, **variables: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GPT_OSS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpt_oss_triton.launch.serve", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "XDG_CACHE_HOME": str(cache), **variables},
        )
        self.said: list[str] = []
        self._answer: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_answer, daemon=True),
            threading.Thread(target=self._read_said, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_answer(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answer.put(line)
        self._answer.put("")

    def _read_said(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    @property
    def told(self) -> str:
        return "".join(self.said)

    def ready(self) -> Launcher:
        self.line = self._answer.get(timeout=READY_S)
        assert self.line, self.told
        self.url = re.search(r"http://[\w.]+:(\d+)", self.line)[0]  # type: ignore[index]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def ended(self) -> int:
        status = self.process.wait(STOP_S)
        for reader in self._readers:
            reader.join(STOP_S)
        return status

    def stop(self) -> int:
        self.process.terminate()
        return self.ended()

    def child(self, name: str) -> psutil.Process:
        """The tritonserver, or the shim."""
        return next(
            process
            for process in psutil.Process(self.process.pid).children()
            if name in " ".join(process.cmdline()[:3])
        )

    def ask(self, **fields: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.url}/v1/chat/completions", json={**ASK, "max_tokens": 4, **fields}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def readyz(self) -> int:
        return httpx.get(f"{self.url}/readyz", timeout=60).status_code


def model_processes(tritonserver: psutil.Process) -> list[psutil.Process]:
    """Its own children alone: a starting stub has short-lived ones, which carry its name until they are another
    program, and whose end harms nobody."""
    return [
        child
        for child in tritonserver.children()
        if "stub" in child.name() and child.status() != psutil.STATUS_ZOMBIE
    ]


def eventually(what: Callable[[], object], seconds: float = READY_S) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def launch(cache: Path) -> Iterator[Callable[..., Launcher]]:
    """Starts launchers, and ends what a test leaves running."""
    started: list[Launcher] = []

    def start(*options: str, **variables: str) -> Launcher:
        started.append(Launcher(cache, *options, **variables))
        return started[-1]

    yield start
    for launcher in started:
        if launcher.process.poll() is None:
            launcher.process.send_signal(signal.SIGTERM)
            launcher.process.send_signal(signal.SIGINT)
    for launcher in started:
        launcher.process.wait(STOP_S)


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[Launcher]:
    """One server for the tests that leave it running."""
    launcher = Launcher(cache, "--port", "0")
    yield launcher.ready()
    assert launcher.stop() == 0, launcher.told


# ------------------------------------------------------------------------------------------------ answers


def test_the_printed_curl_answers_when_pasted(server: Launcher) -> None:
    command = server.line.partition("try: ")[2]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] in ("stop", "length")
    assert server.line.count("\n") == 1


def test_progress_tells_what_the_demo_is(server: Launcher) -> None:
    assert "knows almost nothing" in server.told
    assert "expanding the demo model" in server.told
    assert "loading gpt_oss_20b_engine" in server.told


def test_the_demo_answers_a_greeting_and_ends(server: Launcher) -> None:
    (choice,) = server.ask(max_tokens=None, temperature=0)["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["reasoning"]
    assert "Hello" in choice["message"]["content"]


def test_the_next_free_port(server: Launcher, launch: Callable[..., Launcher]) -> None:
    second = launch("--port", str(server.port), "--auto-port").ready()
    assert second.port > server.port
    assert second.ask()["usage"]["completion_tokens"] == 4
    assert second.stop() == 0
    assert server.readyz() == 200


def test_a_running_triton_is_used(server: Launcher, launch: Callable[..., Launcher]) -> None:
    options = server.child("tritonserver").cmdline()
    grpc_port = next(o.partition("=")[2] for o in options if o.startswith("--grpc-port="))
    second = launch("--port", "0", "--triton-url", f"127.0.0.1:{grpc_port}").ready()
    assert second.ask(model="gpt-oss-20b")["usage"]["completion_tokens"] == 4
    assert not any(
        "tritonserver" in " ".join(p.cmdline()) for p in psutil.Process(second.process.pid).children()
    )
    assert second.stop() == 0
    assert server.readyz() == 200


# ------------------------------------------------------------------------------------------------ recovery


def test_a_killed_shim_comes_back_on_its_port(server: Launcher) -> None:
    server.child("frontend").kill()
    # No retry: the port never closes, and the connection waits for the next shim.
    with socket.create_connection(("127.0.0.1", server.port)):
        pass
    eventually(lambda: "shim was ended by SIGKILL; starting it again" in server.told)
    eventually(lambda: server.readyz() == 200)
    assert server.ask()["usage"]["completion_tokens"] == 4


def test_a_killed_tritonserver_comes_back(server: Launcher) -> None:
    prefix = f"gpt_oss_{server.process.pid}_"
    before = len(shared_memory.regions(prefix))
    server.child("tritonserver").kill()
    eventually(lambda: "tritonserver was ended by SIGKILL" in server.told)
    eventually(lambda: "tritonserver is back" in server.told)
    eventually(lambda: server.readyz() == 200)
    assert server.ask()["usage"]["completion_tokens"] == 4
    eventually(lambda: len(shared_memory.regions(prefix)) == before)


# ------------------------------------------------------------------------------------------------- the end


def test_sigterm_lets_a_running_answer_finish(launch: Callable[..., Launcher]) -> None:
    server = launch("--port", "0").ready()
    body = {**ASK, "stream": True, "max_tokens": 500, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.terminate()
        eventually(lambda: server.readyz() == 503)
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=ASK, timeout=60)
        assert refused.status_code == 503
        events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    finished = [json.loads(e)["choices"][0]["finish_reason"] for e in events[:-1] if json.loads(e)["choices"]]
    assert finished[-1] in ("stop", "length")
    assert finished.count(None) > 1, "the answer had ended before it could be drained"
    assert server.ended() == 0, server.told
    assert shared_memory.regions(f"gpt_oss_{server.process.pid}_") == []


def test_a_second_signal_does_not_wait(launch: Callable[..., Launcher]) -> None:
    server = launch("--port", "0", GPT_OSS_DRAIN_TIMEOUT_S="3600").ready()
    body = {**ASK, "stream": True, "max_tokens": 4000, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.terminate()
        eventually(lambda: server.readyz() == 503)
        server.process.terminate()
        assert server.ended() == 128 + signal.SIGTERM, server.told
    assert shared_memory.regions(f"gpt_oss_{server.process.pid}_") == []


def test_a_signal_while_starting_is_a_clean_end(launch: Callable[..., Launcher]) -> None:
    server = launch("--port", "0")
    eventually(lambda: "loading" in server.told)
    assert server.stop() == 0, server.told


def test_a_model_process_that_dies_at_once_ends_the_start(launch: Callable[..., Launcher]) -> None:
    """Triton itself would wait for it for ever."""
    server = launch("--port", "0")
    stubs: list[psutil.Process] = []

    def found() -> bool:
        with contextlib.suppress(psutil.Error, StopIteration):
            stubs[:] = model_processes(server.child("tritonserver"))
        return bool(stubs)

    eventually(found)
    for stub in stubs:
        stub.kill()
    assert server.ended() == 1
    assert "error: tritonserver " in server.told
    assert "The whole log: " in server.told


def test_a_model_process_that_dies_in_a_restart_does_not_hang_the_server(
    launch: Callable[..., Launcher],
) -> None:
    server = launch("--port", "0").ready()
    first = server.child("tritonserver")
    first.kill()
    stubs: list[psutil.Process] = []

    def found() -> bool:
        with contextlib.suppress(psutil.Error, StopIteration):
            second = server.child("tritonserver")
            if second.pid != first.pid:
                stubs[:] = model_processes(second)
        return bool(stubs)

    eventually(found)
    for stub in stubs:
        stub.kill()
    eventually(lambda: "tritonserver is back" in server.told)
    assert server.told.count("; starting it again") >= 2
    eventually(lambda: server.readyz() == 200)
    assert server.ask()["usage"]["completion_tokens"] == 4
    assert server.stop() == 0, server.told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_demo_is_expanded_is_a_clean_end(
    number: signal.Signals, launch: Callable[..., Launcher], tmp_path: Path
) -> None:
    server = launch("--port", "0", XDG_CACHE_HOME=str(tmp_path))
    eventually(lambda: "expanding the demo model" in server.told)
    server.process.send_signal(number)
    assert server.ended() == 0, server.told
    assert "could not be expanded" not in server.told
    assert "tritonserver" not in server.told


def test_nothing_outlives_a_killed_launcher(launch: Callable[..., Launcher]) -> None:
    server = launch("--port", "0").ready()
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) >= 4  # tritonserver, its two stubs, the shim
    server.process.kill()
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert alive == []
    server.process.wait()
    # What it left in shared memory goes with the next start.
    launch("--port", "0").ready()
    assert shared_memory.regions(f"gpt_oss_{server.process.pid}_") == []


# -------------------------------------------------------------------------------------------------- ports


def test_force_port_ends_our_own_earlier_server(launch: Callable[..., Launcher]) -> None:
    first = launch("--port", "0").ready()
    second = launch("--port", str(first.port), "--force-port").ready()
    assert first.ended() == 0
    assert second.port == first.port
    assert f"ended the earlier server on port {first.port}" in second.told
    assert second.ask()["usage"]["completion_tokens"] == 4


def test_force_port_leaves_others_alone(launch: Callable[..., Launcher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = launch("--port", str(port), "--force-port")
        assert refused.ended() == 2
        assert f"error: port {port} is in use" in refused.told
        with socket.create_connection(("127.0.0.1", port)):
            assert other.accept()


@pytest.mark.parametrize(
    ("options", "variables", "complaint"),
    [
        (["--model", "7b"], {}, "--model: invalid choice"),
        (["--model", "20b", "--checkpoint", "/nowhere"], {}, "error: there is no checkpoint of gpt-oss-20b at /nowhere"),
        (["--config", "/nowhere.toml"], {}, "error: cannot read the configuration file /nowhere.toml"),
        (["--host", "203.0.113.1", "--port", "0"], {}, "error: cannot listen on 203.0.113.1"),
        ([], {"GPT_OSS_PORT": "eighty"}, "error: port (GPT_OSS_PORT)"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_clear_line(
    options: list[str], variables: dict[str, str], complaint: str, launch: Callable[..., Launcher]
) -> None:
    launcher = launch(*options, **variables)
    assert launcher.ended() == 2
    assert complaint in launcher.told
    assert "Traceback" not in launcher.told


def test_a_broken_checkpoint_is_told_and_ends_the_start(
    launch: Callable[..., Launcher], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    launcher = launch("--port", "0", "--model", "20b", "--checkpoint", str(tmp_path))
    assert launcher.ended() == 1
    assert "error: tritonserver ended" in launcher.told
    assert str(tmp_path) in launcher.told
    assert "The whole log: " in launcher.told
    assert "Traceback" not in launcher.told
