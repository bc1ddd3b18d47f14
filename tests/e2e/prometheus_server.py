"""A real Prometheus that scrapes one server."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

READY_S = 60.0


class Prometheus:
    """Use as a context manager; it answers inside.

    Args:
        target: host:port of what it scrapes, every second.
        rules: a file of rules that it evaluates.
        directory: an empty one of its own.
    """

    def __init__(self, target: str, rules: Path, directory: Path) -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "gpt-oss", "static_configs": [{"targets": [target]}]}],
        }
        self._config = directory / "prometheus.yml"
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self._log = directory / "prometheus.log"
        self._data = directory / "data"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._data}",
                    f"--web.listen-address={self._address}",
                    "--enable-feature=exemplar-storage",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_S
        while not self._ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float:
        """The sum over an instant vector; 0 for an empty one."""
        return sum(float(series["value"][1]) for series in self.query(expression))

    def exemplars(self, expression: str, since: float) -> list[dict[str, Any]]:
        """The exemplars of a selector's series, from a Unix time on."""
        found = self.ask("query_exemplars", query=expression, start=str(since), end=str(time.time()))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def ask(self, what: str, **parameters: str) -> Any:
        url = f"http://{self._address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        answer = httpx.get(url, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://{self._address}/-/ready").status_code == 200
        except httpx.TransportError:
            return False
