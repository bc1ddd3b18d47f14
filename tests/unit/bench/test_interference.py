"""Running streams: on a real engine, alone and beside a long prompt, and through a server of a few lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpt_oss_triton.bench.__main__ import main
from gpt_oss_triton.bench.http import Endpoint
from gpt_oss_triton.bench.interference import (
    Neighbours,
    measure_engine_interference,
    measure_http_interference,
)
from gpt_oss_triton.bench.running_streams import RunningStreams, gaps
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from tests.engine_contract import wait_idle

EVENT = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n'
LONG_WORDS = 400


@pytest.fixture(scope="module")
def engine(checkpoint) -> Iterator[NativeEngine]:
    settings = EngineSettings(max_context=2048, kv_cache_gib=0.05, max_step_tokens=64, threads=1)
    engine = NativeEngine.from_settings(settings, checkpoint("fp32"))
    yield engine
    engine.close()


def test_gaps_are_those_that_end_within() -> None:
    assert gaps([1.0, 2.0, 4.0, 7.0, 11.0], 2.0, 7.0) == [1.0, 2.0, 3.0]
    assert gaps([], 0.0, 1.0) == []


def test_streams_run_together_until_they_are_not_needed(engine: NativeEngine) -> None:
    with RunningStreams(engine, [[1, 2], [3, 4], [5, 6]], 1000) as running:
        since = running.wait(5)
        assert all(sum(at >= since for at in times) >= 5 for times in running.arrivals)
    wait_idle(engine)
    assert all(len(times) < 1000 for times in running.arrivals)


def test_a_stream_that_ends_is_said(engine: NativeEngine) -> None:
    with RunningStreams(engine, [[1, 2]], 3) as running, pytest.raises(RuntimeError, match="ended"):
        running.wait(5)
    wait_idle(engine)


def check(row: dict[str, float | int | str], streams: int) -> None:
    assert (row["streams"], row["long_prompt_words"]) == (streams, LONG_WORDS)
    assert row["beside_gaps"] >= streams
    for name in ("long_ttft_ms", "alone_gap_p50_ms", "beside_gap_p95_ms"):
        assert row[name] > 0
    assert row["beside_gap_p95_ms"] >= row["beside_gap_p50_ms"]


def test_the_engine_alone(engine: NativeEngine) -> None:
    check(measure_engine_interference(engine, Neighbours(2, 10, LONG_WORDS, 1500)), 2)
    wait_idle(engine)


class Server(ThreadingHTTPServer):
    """Streams words until the client has enough; the long prompt's first word comes when others have had 40 more."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.words = 0
        self.more = threading.Condition()
        self.ended = threading.Event()
        self.broken = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(500 if self.server.broken else 200)
        self.end_headers()
        if self.server.broken:
            return
        if len(body["messages"][0]["content"].split()) == LONG_WORDS:
            with self.server.more:
                enough = self.server.words + 40
                self.server.more.wait_for(lambda: self.server.words >= enough)
            self.wfile.write(EVENT)
            return
        try:
            for _ in range(body["max_tokens"]):
                self.wfile.write(EVENT)
                with self.server.more:
                    self.server.words += 1
                    self.server.more.notify_all()
                self.server.ended.wait(0.002)  # a step of the engine
        except OSError:  # the client has gone
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.ended.set()
        server.shutdown()


def test_through_http(server: Server) -> None:
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "model")
    check(measure_http_interference(endpoint, Neighbours(3, 10, LONG_WORDS, 10**6)), 3)


def test_what_goes_wrong_is_said(server: Server) -> None:
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "model")
    with pytest.raises(RuntimeError, match="--max-tokens"):
        measure_http_interference(endpoint, Neighbours(2, 10, LONG_WORDS, 20))
    server.broken = True
    with pytest.raises(RuntimeError, match="500"):
        measure_http_interference(endpoint, Neighbours(2, 10, LONG_WORDS, 1000))


def test_the_command(checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_KV_CACHE_GIB", "0.05")
    monkeypatch.setenv("GPT_OSS_MAX_STEP_TOKENS", "64")
    arguments = (
        f"--streams 2 --prompt-words 10 --long-words {LONG_WORDS} --max-tokens 1500 --repeat 2 --threads 1"
    )
    main(["interference", "--checkpoint", str(checkpoint("fp32")), *arguments.split()])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        check(row, 2)
