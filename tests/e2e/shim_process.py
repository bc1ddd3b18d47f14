"""The shim as a process of its own, in front of a real tritonserver."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any, Self

import httpx
from openai import OpenAI

from gpt_oss_triton.launch.triton_server import TritonServer

READY_S = 60.0


class ShimProcess:
    """Use as a context manager; it is ready inside.

    Attributes:
        url: of the API, without a path.
    """

    def __init__(self, triton: TritonServer, **settings: Any) -> None:
        values = {"local_triton": True, "triton_control_key": triton.control_key, "port": 0, **settings}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GPT_OSS_")}
        for name, value in values.items():
            environment[f"GPT_OSS_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
        self._log = tempfile.NamedTemporaryFile(prefix="shim-", suffix=".log")  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-m", "frontend", "--triton-url", triton.grpc_url],
            env=environment,
            stderr=self._log,
        )
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self._wait_ready()
        except BaseException:
            self.process.kill()
            raise
        return self

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while not (match := re.search(r"listening on (http://\S+),", self.log())):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        self.url = match[1]
        while not self.ready():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(2):  # drain, and no patience
            self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self._log.close()

    def log(self) -> str:
        with open(self._log.name) as lines:  # noqa: PTH123 - the name of an open file
            return lines.read()

    def ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz").status_code == 200

    def client(self) -> OpenAI:
        """The real client, which hides nothing behind retries."""
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
