"""A real engine and a server of a few lines, by turns."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpt_oss_triton.bench.__main__ import main
from gpt_oss_triton.bench.arguments import parse

TOKENS = 6
EVENTS = (
    *['data: {"choices":[{"delta":{"content":"word"}}]}'] * TOKENS,
    f'data: {{"choices":[],"usage":{{"completion_tokens":{TOKENS}}}}}',
    "data: [DONE]",
)


class Handler(BaseHTTPRequestHandler):
    asked: list[str]
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"][0]["content"])
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write("".join(f"{event}\n\n" for event in EVENTS).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(Handler, "asked", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_rounds_go_by_turns_and_their_ratios_are_told(
    server: ThreadingHTTPServer,
    checkpoint,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPT_OSS_KV_CACHE_GIB", "0.05")
    arguments = f"--streams 2 --prompt-words 5 --output-tokens {TOKENS} --repeat 3 --threads 1"
    url = f"http://127.0.0.1:{server.server_port}/v1"
    main(["overhead", "--url", url, "--checkpoint", str(checkpoint("fp32")), *arguments.split()])
    *rows, medians = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["through"] for row in rows] == ["http", "engine", "engine", "http", "http", "engine"]
    assert all((row["streams"], row["ok"], row["failed"]) == (2, 4, 0) for row in rows)
    assert len(Handler.asked) == len(set(Handler.asked)) == 2 + 3 * 4, "warm-up, then two rounds a stream"
    rates = {
        name: [row["output_tokens_per_s"] for row in rows if row["through"] == name]
        for name in ("http", "engine")
    }
    ratios = sorted(a / b for a, b in zip(rates["http"], rates["engine"], strict=True))
    assert medians["ratio"] == pytest.approx(ratios[1], abs=1e-3)
    assert (medians["ratio_low"], medians["ratio_high"]) == pytest.approx((ratios[0], ratios[2]), abs=1e-3)
    assert medians["engine"] == sorted(rates["engine"])[1]


def test_a_refused_request_makes_no_ratio(
    server: ThreadingHTTPServer, checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_OSS_KV_CACHE_GIB", "0.05")
    monkeypatch.setattr(Handler, "status", 429)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with pytest.raises(SystemExit, match="429"):
        main(
            [
                "overhead",
                "--url",
                url,
                "--checkpoint",
                str(checkpoint("fp32")),
                "--streams",
                "1",
                "--threads",
                "1",
            ]
        )


def test_each_benchmark_has_its_own_number_of_rounds() -> None:
    assert parse(["http"]).repeat == 3
    assert parse(["overhead", "--checkpoint", "there"]).repeat == 10
