"""What must not get out does not, and what must not get in does not, with all processes real."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from frontend.caller import digest_of
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

PATH = "/v1/chat/completions"

# What a run knows or is told that nobody may find in what the server writes about itself.
ENVIRONMENT = {
    "HF_TOKEN": "hf_plantedInTheEnvironment01",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret/02",
    "OPENAI_API_KEY": "sk-planted-for-another-service-03",
    "DATABASE_PASSWORD": 'planted "quoted" password 04',
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=planted-collector-key-05",
}
API_KEY = "planted-api-key-06"
ADMIN_KEY = "planted-admin-key-07"
FILE_KEY = "planted-key-of-the-file-08"
PLANTED = {
    "wrong bearer": "planted-wrong-bearer-09",
    "basic": "cGxhbnRlZC1iYXNpYzoxMA==",
    "x-api-key": "planted-x-api-key-11",
    "cookie": "planted-cookie-12",
    "header": "planted-header-13",
    "session": "planted-session-14",
    "prompt": "planted prompt fifteen",
    "system prompt": "planted system prompt sixteen",
    "model in body": "planted-model-17",
    "model in path": "planted-model-18",
    "query": "planted-query-19",
    "cache key": "planted-cache-key-20",
    "user": "planted-user-21",
    "stop": "planted-stop-22",
    "broken JSON": "planted-broken-json-23",
    "field name": "planted_field_24",
    "field value": "planted-value-25",
    "path": "planted-path-26",
    "log level": "planted-level-27",
}


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(f'[[key]]\nname = "alice"\nsha256 = "{digest_of(FILE_KEY.encode()).hex()}"\n')
    return path


@pytest.fixture(scope="module")
def shim(triton: TritonServer, keys_file: Path) -> Iterator[ShimProcess]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        with ShimProcess(
            triton,
            api_key=API_KEY,
            admin_key=ADMIN_KEY,
            api_keys_file=str(keys_file),
            max_body_bytes=100_000,
            max_header_bytes=20_000,
            body_timeout_s=1.0,
        ) as process:
            yield process


@pytest.fixture
def http(shim: ShimProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shim.url, timeout=60, headers=bearer(API_KEY)) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": ENSEMBLE, "messages": [{"role": "user", "content": text}], "max_tokens": 2, **fields}


def plant(http: httpx.Client, triton: TritonServer) -> None:
    """Bring every secret in, by requests that go well and by requests that fail."""
    p = PLANTED
    ok = chat(
        p["prompt"], stop=[p["stop"]], prompt_cache_key=p["cache key"], user=p["user"],
        messages=[{"role": "system", "content": p["system prompt"]}, {"role": "user", "content": p["prompt"]}],
    )  # fmt: skip
    told = {"x-api-key": p["x-api-key"], "cookie": f"a={p['cookie']}", "x-anything": p["header"]}
    assert http.post(PATH, json=ok, headers=told | {"x-session-id": p["session"]}).status_code == 200
    assert http.post(PATH, json=ok | {"stream": True}, headers=bearer(FILE_KEY)).status_code == 200
    with http.stream("POST", PATH, json=ok | {"stream": True, "max_tokens": 3000}) as response:
        next(response.iter_lines())  # and leave
    for key in (p["wrong bearer"], f"{API_KEY}x", f"x{ADMIN_KEY}", triton.control_key):
        assert http.post(PATH, json=ok, headers=bearer(key)).status_code == 401
    assert http.get("/v1/models", headers={"authorization": f"Basic {p['basic']}"}).status_code == 401
    assert http.get("/v1/models", params={"key": p["query"]}).status_code == 200
    assert http.get(f"/v1/models/{p['model in path']}").status_code == 404
    assert http.get(f"/{p['path']}/{p['path']}").status_code == 404
    assert http.post(PATH, json=ok | {"model": p["model in body"]}).status_code == 404
    assert http.post(PATH, json=ok | {p["field name"]: p["field value"]}).status_code == 400
    assert http.post(PATH, json=ok | {"temperature": p["field value"]}).status_code == 400
    broken = f'{{"model": {p["broken JSON"]}'
    assert http.post(PATH, content=broken, headers={"content-type": "application/json"}).status_code == 400
    admin = {"level": p["log level"]}
    assert http.post("/admin/log-level", json=admin, headers=bearer(ADMIN_KEY)).status_code == 400
    assert http.post("/admin/drain", json=admin, headers=bearer(FILE_KEY)).status_code == 403


def test_no_planted_secret_is_in_a_bundle_or_a_log(
    shim: ShimProcess, http: httpx.Client, triton: TritonServer
) -> None:
    debug = http.post("/admin/log-level", json={"level": "debug"}, headers=bearer(ADMIN_KEY))
    assert debug.status_code == 200
    plant(http, triton)
    written = {
        "stats": http.get("/stats", headers=bearer(ADMIN_KEY)).text,
        "memory": http.get("/memory_stats").text,
        "health": http.get("/health").text,
        "metrics": http.get("/metrics").text,
        "metrics with exemplars": http.get(
            "/metrics", headers={"accept": "application/openmetrics-text"}
        ).text,
    }
    bundle = http.get("/admin/debug/bundle", headers=bearer(ADMIN_KEY))
    assert bundle.status_code == 200
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        written |= {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}
    written |= {"the log": shim.log(), "tritonserver's log": triton.log_file.read_text(errors="replace")}

    assert "request_end" in written["the log"]  # the run was written about
    assert "request_end" in written["log.txt"]
    assert f"tritonserver-{triton.pid}.log" in written
    assert json.loads(written["settings.json"])["api_key"]["origin"] == "environment"
    collector = ENVIRONMENT["OTEL_EXPORTER_OTLP_HEADERS"].partition("=")[2]
    keys = (API_KEY, ADMIN_KEY, FILE_KEY, triton.control_key, digest_of(FILE_KEY.encode()).hex())
    secrets = {*ENVIRONMENT.values(), collector, *keys, *PLANTED.values()}
    found = [
        (secret, place)
        for place, text in written.items()
        for secret in secrets
        if secret in text or json.dumps(secret)[1:-1] in text
    ]
    assert found == []


def test_the_keys_file_is_followed(http: httpx.Client, keys_file: Path) -> None:
    def status(key: str) -> int:
        return http.get("/v1/models", headers=bearer(key)).status_code

    def until(key: str, wanted: int) -> None:
        deadline = time.monotonic() + 30
        while status(key) != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    before = keys_file.read_text()
    assert (status(FILE_KEY), status("bobs-key")) == (200, 401)
    keys_file.write_text(before + f'[[key]]\nname = "bob"\nsha256 = "{digest_of(b"bobs-key").hex()}"\n')
    until("bobs-key", 200)
    keys_file.write_text(before + "disabled = true\n")
    until(FILE_KEY, 401)
    assert status("bobs-key") == 401
    keys_file.write_text(before)
    until(FILE_KEY, 200)


def raw(shim: ShimProcess, *pieces: bytes) -> bytes:
    """What the server answers to bytes that no client library would send, up to where it closes."""
    url = httpx.URL(shim.url)
    answer = b""
    address = (url.host, url.port)
    with socket.create_connection(address, timeout=20) as connection, contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        while chunk := connection.recv(4096):
            answer += chunk
    return answer


HEAD = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_KEY}\r\n".encode()
JSON = b"content-type: application/json\r\n"


def test_a_body_that_stops_half_way(shim: ShimProcess) -> None:
    answer = raw(shim, HEAD + JSON + b"content-length: 10\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


def test_a_head_that_stops_half_way(shim: ShimProcess) -> None:
    assert raw(shim, HEAD).startswith(b"HTTP/1.1 408 ")


def test_a_head_without_end(shim: ShimProcess) -> None:
    answer = raw(shim, HEAD + b"x-long: ", *[b"x" * 10_000] * 2)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_large_heads_and_bodies(http: httpx.Client) -> None:
    assert http.get("/v1/models", headers={"x-long": "x" * 20_000}).status_code == 431
    assert http.post(PATH, json=chat("x" * 100_000)).status_code == 413
    assert http.get("/v1/models").status_code == 200
