"""`/stats`, `/memory_stats` and `/admin` in front of real engines."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import ENGINE_OF, NORMALIZER_MODEL
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

PATH = "/v1/chat/completions"
ADMIN = {"authorization": "Bearer master-key"}
CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
Until = Callable[[Callable[[], bool], str], None]


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton, admin_key="master-key") as process:
        yield process


@pytest.fixture
def http(shim: ShimProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shim.url, timeout=60) as client:
        yield client


def stats(http: httpx.Client) -> dict[str, Any]:
    response = http.get("/stats", headers=ADMIN)
    assert response.status_code == 200
    record: dict[str, Any] = response.json()
    return record


def test_stats_follow_a_request(http: httpx.Client, until: Until) -> None:
    before = stats(http)
    assert http.post(PATH, json=CHAT).status_code == 200
    assert http.post(PATH, json=CHAT | {"model": "gpt-7"}).status_code == 404

    def changed(part: str, field: str) -> int:
        return int(stats(http)[part][field] - before[part][field])

    assert changed("requests", "ok") == 1
    assert changed("requests", "error") == 1
    assert changed("requests", "accepted") == 2
    assert changed("prefix_cache", "prompt_tokens") > 0
    until(lambda: stats(http)["engines"][0]["load"]["output_tokens"] >= 4, "the engine reports the answer")
    after = stats(http)
    assert after["latency"]["requests"] >= 1
    assert after["latency"]["ttft_p50_s"] > 0
    (engine,) = after["engines"]
    assert (engine["model"], engine["ready"], engine["in_flight"]) == (ENSEMBLE, True, 0)
    assert after["memory"]["kv_bytes_total"] > 0
    assert after["settings"]["local_triton"] == {"value": True, "origin": "environment"}


def test_memory_names_every_process(http: httpx.Client, triton: TritonServer, shim: ShimProcess) -> None:
    state = http.get("/memory_stats").json()
    processes = {process["name"]: process for process in state["processes"]}
    assert processes.keys() == {"shim", "tritonserver", ENGINE_OF[ENSEMBLE], NORMALIZER_MODEL}
    assert processes["shim"]["pid"] == shim.process.pid
    assert processes["tritonserver"]["pid"] == triton.pid
    assert all(process["rss_bytes"] > 10_000_000 for process in processes.values())
    (kv,) = state["kv"].values()
    assert kv["bytes"]["total"] == state["memory"]["kv_bytes_total"]


def test_a_drain_lets_answers_finish_and_can_be_undone(http: httpx.Client, until: Until) -> None:
    finished: list[int] = []

    def answer() -> None:
        body = CHAT | {"max_tokens": 400, "ignore_eos": True}
        finished.append(http.post(PATH, json=body).json()["usage"]["completion_tokens"])

    running = threading.Thread(target=answer)
    running.start()
    until(lambda: stats(http)["engines"][0]["in_flight"] == 1, "the request runs")
    assert http.post("/admin/drain", headers=ADMIN).json() == {"draining": True, "in_flight": 1, "queued": 0}
    assert http.get("/readyz").status_code == 503
    refused = http.post(PATH, json=CHAT)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    running.join()
    assert finished == [400]
    assert http.post("/admin/drain", json={"undo": True}, headers=ADMIN).json()["draining"] is False
    assert http.get("/readyz").status_code == 200
    assert http.post(PATH, json=CHAT).status_code == 200


def test_the_log_level_changes_what_is_logged(http: httpx.Client, shim: ShimProcess, until: Until) -> None:
    def level(name: str) -> None:
        assert http.post("/admin/log-level", json={"level": name}, headers=ADMIN).json() == {"level": name}

    def logged(request_id: str) -> bool:
        return request_id in shim.log()

    http.get("/livez", headers={"x-request-id": "at-info"})  # probes are not logged
    level("debug")
    http.get("/livez", headers={"x-request-id": "at-debug"})
    until(lambda: logged("at-debug"), "the probe is logged")
    assert not logged("at-info")
    level("error")
    http.get("/v1/models", headers={"x-request-id": "at-error"})
    level("info")
    http.get("/v1/models", headers={"x-request-id": "at-info-again"})
    until(lambda: logged("at-info-again"), "the request is logged")
    assert not logged("at-error")


def test_a_bundle_tells_the_whole_story(http: httpx.Client, triton: TritonServer) -> None:
    answer = http.post(PATH, json=CHAT, headers={"x-request-id": "the-last-one"})
    assert answer.status_code == 200
    response = http.get("/admin/debug/bundle", headers=ADMIN)
    assert response.status_code == 200
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not [text for text in parts.values() if text.startswith("this part could not be made")]
    (engine,) = json.loads(parts["snapshot.json"])["engines"]
    (kv,) = json.loads(parts["kv.json"]).values()
    assert kv["blocks"]["total"] == engine["load"]["blocks_total"]
    assert {"tritonserver", ENGINE_OF[ENSEMBLE]} <= {p["name"] for p in json.loads(parts["processes.json"])}
    assert "the-last-one" in parts["log.txt"]
    assert "llm_ttft_seconds_bucket" in parts["metrics.txt"]
    assert f"successfully loaded '{ENSEMBLE}'" in parts[f"tritonserver-{triton.pid}.log"]
    assert "EngineWatch" in parts["tasks.txt"]
    assert json.loads(parts["versions.json"])["tritonclient"] != "not installed"
