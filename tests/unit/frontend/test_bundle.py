"""The debug bundle: what is in it, what is not, and what it costs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from frontend import bundle, processes
from frontend.bundle import MAX_PART_BYTES, Bundles, masked
from frontend.service import Service
from gpt_oss_triton import __version__
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import RateLimited
from gpt_oss_triton.telemetry import logs
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENSEMBLE, LOAD

pytestmark = pytest.mark.anyio

PARTS = {
    "README.txt", "snapshot.json", "settings.json", "kv.json", "processes.json", "system.json", "versions.json",
    "metrics.txt", "log.txt", "tasks.txt", "threads.txt",
}  # fmt: skip


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


async def parts(service: Service, **environment: str) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(await Bundles(service, environment).make())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


async def test_every_part_is_there_and_explained(service: Service) -> None:
    found = await parts(service)
    assert found.keys() == PARTS
    for name, text in found.items():
        assert not text.startswith("this part could not be made"), text
        assert f"\n{name} " in found["README.txt"], name
        if name.endswith(".json"):
            json.loads(text)
    assert __version__ in found["README.txt"]


async def test_the_parts_tell_what_they_say(service: Service) -> None:
    found = await parts(service, CUDA_VISIBLE_DEVICES="0", MY_TOKEN_FILE="x")
    snapshot = json.loads(found["snapshot.json"])
    assert snapshot["engines"][0]["load"]["blocks_total"] == LOAD.blocks_total
    assert json.loads(found["kv.json"])["local"]["blocks"]["total"] == LOAD.blocks_total
    assert json.loads(found["settings.json"])["max_queue"] == {"value": 256, "origin": "default"}
    assert json.loads(found["processes.json"])[0]["name"] == "shim"
    versions = json.loads(found["versions.json"])
    assert versions["gpt-oss-triton"] == __version__
    assert "not installed" not in (versions["fastapi"], versions["starlette"])
    assert "mypy" not in versions
    system = json.loads(found["system.json"])
    assert system["environment"] == {"CUDA_VISIBLE_DEVICES": "0"}
    assert 0 < system["process"]["descriptors"] <= system["process"]["descriptors_limit"]
    assert "llm_kv_blocks_capacity" in found["metrics.txt"]
    assert "EngineWatch.run" in found["tasks.txt"]
    assert "thread MainThread" in found["threads.txt"]


@pytest.fixture
def logging_started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level
    output = logs.start_logging(FrontendSettings(log_format="json"), io.StringIO())
    yield
    logging.root.setLevel(level)
    output.finish()


@pytest.mark.usefixtures("logging_started")
async def test_the_log_is_in_it(app: FastAPI, service: Service) -> None:
    logging.getLogger("frontend.anything").info("a line of the log")
    chat = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "the prompt's text"}]}
    await Exchange.post(app, "/v1/chat/completions", chat, {"x-request-id": "my-request"}).finish()
    found = await parts(service)
    lines = [json.loads(line) for line in found["log.txt"].splitlines()]
    assert "a line of the log" in [line.get("message") for line in lines]
    assert "my-request" in [line.get("request_id") for line in lines]
    assert "the prompt's text" not in str(found)


@pytest.mark.usefixtures("logging_started")
async def test_secrets_are_masked_wherever_they_stand(service: Service) -> None:
    """Each of these is written where no care of ours keeps it out."""
    secrets = {
        "HF_TOKEN": "hugging-face-token",
        "AWS_SECRET_ACCESS_KEY": "amazon/secret+key",
        "MY_DB_PASSWORD": 'quotes " and \\ and ü',
    }
    bearer, hugging, ours = "abcdefgh12345678", "hf_" + "a1B2" * 8, "sk-gpt-oss-" + "x" * 43
    Bundles(service, secrets)  # from now on they are known
    logging.getLogger("frontend.anything").error("it went wrong: %s", list(secrets.values()))
    logging.getLogger("frontend.anything").error("%s", {"authorization": f"Bearer {bearer}"})
    logging.getLogger("frontend.anything").error("%s and %s", hugging, ours)
    logging.getLogger("frontend.anything").error("cannot reach http://me:pass-word@somewhere:1/path")
    service.settings = service.settings.model_copy(
        update={"models": {f"model {secrets['HF_TOKEN']}": ENSEMBLE}, "admin_key": SecretStr("master-key")}
    )
    text = str(await parts(service))
    for secret in (*secrets.values(), bearer, hugging, ours, "pass-word", "master-key"):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    assert "it went wrong" in text
    assert "somewhere:1/path" in text


@pytest.mark.parametrize(
    "text", ["the bearer of news", "disk-usage is low", "http://host:80/path?at=a@b", "12:30:15 a@b", "shelf_life"]
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


async def test_where_secrets_lie_is_no_secret(service: Service) -> None:
    Bundles(service, {"GPT_OSS_API_KEYS_FILE": "/etc/keys/keys.toml"})
    assert masked("cannot read /etc/keys/keys.toml") == "cannot read /etc/keys/keys.toml"


async def test_short_switches_are_no_secrets(service: Service) -> None:
    Bundles(service, {"USE_AUTHORIZATION_TOKEN": "true", "TOKENIZERS_PARALLELISM": "false"})
    assert masked("true or false") == "true or false"


async def test_one_at_a_time(service: Service) -> None:
    now = 0.0
    bundles = Bundles(service, {}, lambda: now)
    first = asyncio.create_task(bundles.make())
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as caught:
        await bundles.make()
    assert caught.value.retry_after_s == bundle.EVERY_S
    await first
    with pytest.raises(RateLimited):
        await bundles.make()
    now += bundle.EVERY_S
    assert await bundles.make()


async def test_a_failure_does_not_block_the_next_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    bundles = Bundles(service, {}, lambda: now)

    def fail(service: Service) -> dict[str, Any]:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(bundle, "snapshot", fail)
        with pytest.raises(RuntimeError):
            await bundles.make()
    now += bundle.EVERY_S
    assert await bundles.make()


async def test_a_part_that_fails_says_so_and_spoils_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = "what the client wrote"

    async def broken(*_: Any) -> None:
        raise ValueError(written)

    def huge() -> list[str]:
        return ["early " + "x" * MAX_PART_BYTES, "late"]

    monkeypatch.setattr(service.telemetry, "exposition", broken)
    monkeypatch.setattr(logs, "recent_lines", huge)
    found = await parts(service)
    assert found.keys() == PARTS
    assert found["metrics.txt"].startswith("this part could not be made: ValueError")
    assert written not in found["metrics.txt"]
    assert len(found["log.txt"]) == MAX_PART_BYTES
    assert found["log.txt"].endswith("late")


async def test_tritons_log_is_in_it_where_it_runs_here(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "logging_servers", lambda loads: [7])
    monkeypatch.setattr(processes, "log_tail", lambda pid, size: f"the log of {pid}")
    found = await parts(service)
    assert found["tritonserver-7.log"] == "the log of 7"
