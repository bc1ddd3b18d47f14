"""What a key's limits, the drain and the response cache mean to each other at the chat route."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from frontend.caller import digest_of
from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton
from tests.unit.frontend.normalizing_triton import NormalizingTriton

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": ENSEMBLE, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def settings(settings: FrontendSettings, tmp_path: Path) -> FrontendSettings:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[key]]\nname = "two"\nsha256 = "{digest_of(b"two").hex()}"\nrequests_per_minute = 2\n'
        f'[[key]]\nname = "words"\nsha256 = "{digest_of(b"words").hex()}"\ntokens_per_minute = 70\n'
        f'[[key]]\nname = "any"\nsha256 = "{digest_of(b"any").hex()}"\n'
    )
    return settings.model_copy(update={"api_keys_file": keys, "response_cache_entries": 8})


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shim") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_cached_answer_counts_as_a_request_of_its_key(
    http: httpx.AsyncClient, fake: FakeTriton
) -> None:
    answers = [await http.post(PATH, json=CHAT, headers=bearer("two")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert len(fake.requests) == 1, "the second one came from the cache"


SEVERAL = {PATH: {**CHAT, "n": 3}, "/v1/completions": {"model": ENSEMBLE, "prompt": ["a", "b"], "n": 2}}


@pytest.mark.parametrize("path", SEVERAL)
@pytest.mark.parametrize("temperature", [0, 1], ids=["cached", "computed"])
async def test_several_answers_are_one_request_of_their_key(
    http: httpx.AsyncClient, path: str, temperature: int
) -> None:
    body = SEVERAL[path] | {"temperature": temperature}
    answers = [await http.post(path, json=body, headers=bearer("two")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_who_is_limited_learns_how_much_is_left(http: httpx.AsyncClient) -> None:
    answers = [await http.post(PATH, json=CHAT, headers=bearer("two")) for _ in range(3)]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["2", "2", "2"]
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"


async def test_the_cache_does_not_answer_while_draining(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await http.post(PATH, json=CHAT, headers=bearer("any"))).status_code == 200
    service: Service = app.state.service
    service.refuse_new()
    assert (await http.post(PATH, json=CHAT, headers=bearer("any"))).status_code == 503
    service.resume()
    assert (await http.post(PATH, json=CHAT, headers=bearer("any"))).status_code == 200


async def test_a_cached_answer_is_no_hit_of_the_kv_cache(app: FastAPI, http: httpx.AsyncClient) -> None:
    service: Service = app.state.service
    await http.post(PATH, json=CHAT, headers=bearer("any"))
    before = service.telemetry.counts()["prefix_cache"]
    await http.post(PATH, json=CHAT, headers=bearer("any"))
    assert service.telemetry.counts()["prefix_cache"] == before
    assert service.response_cache.stats()["hits"] == 1


async def test_a_conversation_has_a_most_number_of_messages(http: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": ""}] * 2049
    answer = await http.post(PATH, json={**CHAT, "messages": messages}, headers=bearer("any"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


LOOKS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions/render", CHAT),
    ("/tokenize", {"prompt": "hi"}),
    ("/tokenize", CHAT),
    ("/detokenize", {"tokens": [1, 2]}),
]


@pytest.fixture
async def fake() -> AsyncIterator[NormalizingTriton]:
    async with NormalizingTriton() as triton:
        yield triton


@pytest.mark.parametrize(("path", "body"), LOOKS)
async def test_looking_at_a_prompt_counts_as_a_request_of_its_key(
    http: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    looks = [await http.post(path, json=body, headers=bearer("two")) for _ in range(3)]
    assert [look.status_code for look in looks] == [200, 200, 429]
    assert [look.headers["x-ratelimit-remaining-requests"] for look in looks] == ["1", "0", "0"]
    assert looks[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert (await http.post(PATH, json=CHAT, headers=bearer("two"))).status_code == 429
    assert (await http.post(path, json=body, headers=bearer("any"))).status_code == 200


async def test_a_look_takes_no_place_and_no_tokens(http: httpx.AsyncClient) -> None:
    """Of a key whose tokens are used up."""
    chat = await http.post(PATH, json={**CHAT, "max_tokens": 5}, headers=bearer("words"))
    refused = await http.post(PATH, json=CHAT, headers=bearer("words"))
    assert (chat.status_code, refused.status_code) == (200, 429)
    for path, body in LOOKS:
        assert (await http.post(path, json=body, headers=bearer("words"))).status_code == 200


async def test_what_is_no_request_does_not_count(http: httpx.AsyncClient) -> None:
    wrong = [await http.post("/tokenize", json={"prompt": 1}, headers=bearer("two")) for _ in range(3)]
    assert [answer.status_code for answer in wrong] == [400, 400, 400]
    assert (await http.post("/tokenize", json={"prompt": "hi"}, headers=bearer("two"))).status_code == 200


async def test_a_limit_of_load_is_no_limit_of_the_callers(
    app: FastAPI, http: httpx.AsyncClient, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = app.state.service
    monkeypatch.setattr(service.admission, "answer_limit", lambda _: 7)
    asked = [{}, {"max_completion_tokens": 100}, {"max_completion_tokens": 3}]
    answers = [await http.post(PATH, json=CHAT | more, headers=bearer("any")) for more in asked]
    assert [answer.headers.get("x-answer-limit") for answer in answers] == ["7", "7", None]
    options = [request.options for request in fake.requests]
    assert [(o.max_tokens, o.most_tokens) for o in options] == [(None, 7), (100, 7), (3, None)]
