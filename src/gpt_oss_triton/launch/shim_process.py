"""The shim as a child process on the launcher's listening socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from http import HTTPStatus

from gpt_oss_triton.config import ENV_PREFIX
from gpt_oss_triton.launch.bound_exec import bound
from gpt_oss_triton.launch.child import describe_exit
from gpt_oss_triton.launch.ports import local_address

_MARGIN_S = 10.0  # beyond the drain, for the rest of the shim's way out
_HURRY_S = 1.0


class ShimProcess:
    """`python -m frontend` on a socket that is already listening.

    Attributes:
        listener: owned by the caller; the child gets its descriptor.
        environment: `GPT_OSS_*` variables for the shim; those of this process are not inherited.
        drain_timeout_s: how long the shim takes at most to let running answers finish.
    """

    name = "shim"

    def __init__(
        self, listener: socket.socket, environment: Mapping[str, str], drain_timeout_s: float
    ) -> None:
        self._listener = listener
        self._environment = environment
        self._drain_timeout_s = drain_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._hurried = False

    def start(self) -> None:
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            bound(sys.executable, "-m", "frontend", "--fd", str(descriptor)),
            pass_fds=[descriptor],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)},
                **self._environment,
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the launcher, which drains first
        )

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        return self.alive() and self._ask()[0] == HTTPStatus.OK

    def stuck(self) -> str | None:
        return None

    def progress(self) -> list[str]:
        return []

    def awaits(self) -> str:
        status, body = self._ask()
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return "; ".join(map(str, json.loads(body)["problems"]))
        return f"its /readyz answered {status}" if status else "it does not answer yet"

    def ended(self) -> str:
        return describe_exit(None if self._process is None else self._process.returncode)

    def log_tail(self) -> list[str]:
        return []

    def log_place(self) -> str:
        return "Its messages are above."

    def tick(self) -> None:
        """Nothing to look after."""

    def abort(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, fast: bool) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        for patience_s in (_HURRY_S, _MARGIN_S) if fast else (self._drain_timeout_s + _MARGIN_S,):
            self._process.terminate()  # one begins a drain, another one cuts it short
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            return
        self._process.kill()
        self._process.wait()

    def hurry(self) -> None:
        """A second SIGTERM makes the shim end its answers, which it tells the engines; after that it is killed."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL if self._hurried else signal.SIGTERM)
            self._hurried = True

    def _ask(self) -> tuple[int, bytes]:
        """Status and body of its readiness; status 0 when it does not answer."""
        connection = http.client.HTTPConnection(*local_address(self._listener), timeout=2)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()
