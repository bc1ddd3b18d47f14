"""One embedded tritonserver: its command line, its process, its log.

Starting it again after it died is the caller's decision; `start` may be called any number of times and
keeps the ports, so that clients find the server where it was.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from gpt_oss_triton.config import ENV_PREFIX
from gpt_oss_triton.launch import shared_memory
from gpt_oss_triton.launch.bound_exec import bound
from gpt_oss_triton.launch.places import temporary_root
from gpt_oss_triton.launch.server_log import ServerLog
from gpt_oss_triton.launch.triton_install import TritonInstall, find_install
from gpt_oss_triton.telemetry.otlp import traces_url
from gpt_oss_triton.wire import CONTROL_KEY_HEADER

_CONTROL_APIS = (
    "model-repository,shared-memory,trace,logging"  # what changes the server, and not what asks it
)
_LOOPBACK = "127.0.0.1"
_POLL_S = 0.1
_STUBS_END_S = 5.0


class TritonFailed(Exception):
    """The server ended, or was not ready in time; the message holds the cause that its log gives."""


@dataclass(frozen=True, slots=True)
class TritonServerSettings:
    """Attributes:
    models: what to load at start; the composing models of an ensemble come with it.
    environment: variables for the models (`GPT_OSS_*`, `OMP_NUM_THREADS` …). `GPT_OSS_*` variables of
        this process are not inherited: what a model sees is what is said here.
    exit_timeout_s: how long a terminating server waits for requests in flight. Short, because whoever
        terminates it has drained it, and because 2.51 sometimes counts an ensemble's request for ever.
    shm_bytes: size of each stub's shared memory at its start, and the step it grows in.
    extra_arguments: further command-line options (`--trace-config=…`, `--log-verbose=1`).
    """

    model_repository: Path
    models: Sequence[str]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    exit_timeout_s: int = 5
    shm_bytes: int = 8 * 1024 * 1024
    extra_arguments: Sequence[str] = ()


class TritonServer:
    """A tritonserver on loopback, with explicit model control behind a key.

    Attributes:
        log: what the server writes, from where its current life began.
        control_key: value of `wire.CONTROL_KEY_HEADER` that loads and unloads models.
        shm_prefix: how the names of this server's shared-memory regions start; unique to this object.
    """

    def __init__(self, settings: TritonServerSettings, install: TritonInstall | None = None) -> None:
        self._settings = settings
        self._install = install or find_install()
        self._reserved = [_reserve_port() for _ in range(3)]
        self._http_port, self._grpc_port, self._metrics_port = (s.getsockname()[1] for s in self._reserved)
        self._directory = Path(tempfile.mkdtemp(prefix="gpt-oss-triton-", dir=temporary_root()))
        self._process: subprocess.Popen[bytes] | None = None
        self._group: int | None = None  # of the process and its stubs, until it was ended
        self.log = ServerLog(settings.log_file)
        self.control_key = secrets.token_urlsafe(24)
        self.shm_prefix = f"gpt_oss_{os.getpid()}_{secrets.token_hex(4)}_"

    @property
    def http_url(self) -> str:
        return f"{_LOOPBACK}:{self._http_port}"

    @property
    def grpc_url(self) -> str:
        return f"{_LOOPBACK}:{self._grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{_LOOPBACK}:{self._metrics_port}/metrics"

    @property
    def log_file(self) -> Path:
        return self._settings.log_file

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """None before the first start and while the process lives."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._end_group()
        return code

    def poll(self) -> bool:
        """Whether the process lives. It says nothing of the models: a dead stub is seen by its silence."""
        return self._process is not None and self.returncode is None

    def start(self) -> None:
        """Start the process and return at once.

        The server ends when the *thread* that calls this ends (that is how Linux defines it), so call it
        from one that lives as long as the server should.

        Raises:
            RuntimeError: it runs already.
        """
        if self.poll():
            raise RuntimeError("tritonserver is already running")
        backends = self._directory / "backends"
        self._install.write_backend_directory(backends)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
        environment = {**self._install.environment(inherited), **self._settings.environment}
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.log.begin()
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                self._command(backends),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for the launcher, which drains first
            )
            self._group = self._process.pid

    def wait_ready(self, timeout_s: float, on_progress: Callable[[str], None] | None = None) -> None:
        """Block until every wanted model is loaded. `on_progress` gets one line for each model's step.

        Raises:
            TritonFailed: the process ended, or `timeout_s` passed; the process is left as it is.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if not self.poll():
                raise TritonFailed(f"tritonserver ended with exit code {self.returncode}: {self.log.cause()}")
            if time.monotonic() > deadline:
                raise TritonFailed(
                    f"tritonserver was not ready after {timeout_s:.0f} s: {self.log.cause()} (see {self.log_file})"
                )
            if on_progress is not None:
                for line in self.log.progress():
                    on_progress(line)
            time.sleep(_POLL_S)

    def is_ready(self) -> bool:
        """Whether the server answers at all its addresses and all its models are loaded."""
        if not self.poll():
            return False
        connection = http.client.HTTPConnection(_LOOPBACK, self._http_port, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status != http.HTTPStatus.OK:
                return False
            # tritonserver opens this port last, when the others answer already
            socket.create_connection((_LOOPBACK, self._metrics_port), timeout=2).close()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def terminate(self, grace_s: float = 15.0) -> None:
        """End the process (SIGTERM, after `grace_s` SIGKILL with its stubs) and remove its shared memory."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process is not None:
            self._end_group()
            self._sweep_memory()

    def close(self) -> None:
        """Terminate, and give back the ports and the private directory. No start after this."""
        self.terminate()
        for reserved in self._reserved:
            reserved.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_group(self) -> None:
        """End the stubs that outlived the server. At once when its death is seen, and only then: an empty
        group's number may be given to others."""
        group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _sweep_memory(self) -> None:
        """Remove the shared memory that the ended stubs let go of."""
        deadline = time.monotonic() + _STUBS_END_S
        while shared_memory.sweep(self.shm_prefix) or shared_memory.regions(self.shm_prefix):
            if time.monotonic() > deadline:
                return  # whoever still maps it is not ours to end
            time.sleep(_POLL_S)

    def _command(self, backends: Path) -> list[str]:
        settings, shm = self._settings, self._settings.shm_bytes
        # The key is visible to this machine's users in the process list. It is there against whatever else
        # can reach a loopback port: a browser page, a forwarded request.
        restriction = f"{_CONTROL_APIS}:{CONTROL_KEY_HEADER}={self.control_key}"
        return [
            *bound(self._install.binary),
            f"--model-repository={settings.model_repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in settings.models),
            "--disable-auto-complete-config",  # the committed files are complete
            f"--http-address={_LOOPBACK}",
            f"--http-port={self._http_port}",
            f"--grpc-address={_LOOPBACK}",
            f"--grpc-port={self._grpc_port}",
            f"--metrics-address={_LOOPBACK}",
            f"--metrics-port={self._metrics_port}",
            f"--http-restricted-api={restriction}",
            f"--grpc-restricted-protocol={restriction}",
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            f"--backend-config=python,shm-default-byte-size={shm}",
            f"--backend-config=python,shm-growth-byte-size={shm}",
            f"--exit-timeout-secs={settings.exit_timeout_s}",
            "--log-format=ISO8601",
            *_trace_options(os.environ),
            *settings.extra_arguments,
        ]


def _trace_options(environment: Mapping[str, str]) -> list[str]:
    """Triton's own spans, to where the shim's go. At rate 0 it makes them for no other requests than those
    that come with a `traceparent`, and the shim sends one only where it keeps the trace."""
    url = traces_url(environment)
    if url is None:
        return []
    settings = ("mode=opentelemetry", f"opentelemetry,url={url}", "level=TIMESTAMPS", "rate=0")
    return [f"--trace-config={setting}" for setting in settings]


def _reserve_port() -> socket.socket:
    """A free loopback port, kept from others until the socket is closed.

    Bound and never listening: the kernel hands the port to nobody who asks for any free one, yet
    tritonserver, which sets SO_REUSEADDR as well, may bind and listen on it. So there is no moment between
    choosing a port and using it in which another process can take it."""
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((_LOOPBACK, 0))
    return reserved
