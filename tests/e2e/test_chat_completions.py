"""The real `openai` client on the shim, the shim on a real tritonserver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, DirectClient

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Good"}, {"type": "text", "text": "morning!"}]},
]
GREEDY: dict[str, Any] = {"temperature": 0, "max_completion_tokens": 48}


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton, api_key="s3cret") as process:
        yield process


@pytest.fixture(scope="module")
def api(shim: ShimProcess) -> openai.OpenAI:
    return shim.client().with_options(api_key="s3cret")


def streamed(api: openai.OpenAI, **fields: Any) -> tuple[str, str, str | None, Any]:
    """Reasoning, content, finish reason and usage, folded as a client would."""
    reasoning, content, finish, usage = "", "", None, None
    chunks = api.chat.completions.create(
        model=ENSEMBLE, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **fields
    )
    for chunk in chunks:
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return reasoning, content, finish, usage


def test_streamed_and_unstreamed_answers_are_equal(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(model=ENSEMBLE, messages=MESSAGES, **GREEDY)
    choice = whole.choices[0]
    reasoning, content, finish, usage = streamed(api, **GREEDY)
    assert (getattr(choice.message, "reasoning", None) or "", choice.message.content) == (reasoning, content)
    assert (choice.finish_reason, whole.model) == (finish, ENSEMBLE)
    assert whole.id.startswith("chatcmpl-")
    assert reasoning + content
    assert whole.usage is not None
    assert usage.prompt_tokens == whole.usage.prompt_tokens > 0
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.completion_tokens_details == whole.usage.completion_tokens_details


def test_the_answer_is_the_engines(api: openai.OpenAI, client: DirectClient) -> None:
    """The same tokens as the ensemble gives to a plain Triton client, folded."""
    prompt = PromptRequest([Message("system", "Be brief."), Message("user", "Good\nmorning!")])
    options = GenerationOptions(max_tokens=48, temperature=0)
    direct = client.ask(prompt=prompt, options=options, stream=True)
    text = AnswerText()
    deltas = [d for response in direct for d in text.feed(response.token_ids)] + text.finish()
    expected = {kind: "".join(d.text for d in deltas if d.kind == kind) for kind in ("reasoning", "content")}
    reasoning, content, _, usage = streamed(api, **GREEDY)
    assert {"reasoning": reasoning, "content": content} == expected
    assert usage.completion_tokens == sum(len(response.token_ids) for response in direct)


def test_the_prompt_is_cached_the_second_time(api: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "The same long prompt, again and again. " * 20}]
    first, second = (
        api.chat.completions.create(model=ENSEMBLE, messages=messages, max_tokens=1).usage for _ in range(2)
    )
    assert first is not None
    assert second is not None
    assert first.prompt_tokens_details is not None
    assert second.prompt_tokens_details is not None
    assert first.prompt_tokens_details.cached_tokens < second.prompt_tokens_details.cached_tokens  # type: ignore[operator]


def test_the_token_limit_is_said(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(
        model=ENSEMBLE, messages=MESSAGES, max_tokens=3, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_seeded_answers_repeat(api: openai.OpenAI) -> None:
    one, two = (streamed(api, seed=7, max_tokens=32)[:2] for _ in range(2))
    other = streamed(api, seed=8, max_tokens=32)[:2]
    assert one == two != other


def test_reasoning_can_be_left_out(api: openai.OpenAI) -> None:
    with_it = streamed(api, **GREEDY)
    without = streamed(api, **GREEDY, extra_body={"include_reasoning": False})
    assert without[0] == ""
    assert without[1:3] == with_it[1:3]


def test_no_usage_chunk_unless_asked(api: openai.OpenAI) -> None:
    chunks = list(api.chat.completions.create(model=ENSEMBLE, messages=MESSAGES, stream=True, max_tokens=4))
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created, chunk.system_fingerprint) for chunk in chunks}) == 1


async def _answers_of_many(base_url: str) -> list[str]:
    async with AsyncOpenAI(base_url=base_url, api_key="s3cret", max_retries=0) as api:

        async def one(index: int) -> str:
            text = ""
            stream = await api.chat.completions.create(
                model=ENSEMBLE,
                messages=[{"role": "user", "content": f"Question {index % 4}"}],
                stream=True,
                **GREEDY,
            )
            async for chunk in stream:
                delta = chunk.choices[0].delta
                text += (getattr(delta, "reasoning", None) or "") + (delta.content or "")
            return text

        return await asyncio.gather(*(one(index) for index in range(16)))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_many_at_once_each_get_their_own(shim: ShimProcess) -> None:
    answers = await _answers_of_many(f"{shim.url}/v1")
    for index, answer in enumerate(answers):
        assert answer == answers[index % 4]
    assert len(set(answers)) == 4


def test_models(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [ENSEMBLE]
    assert api.models.retrieve(ENSEMBLE).owned_by
    with pytest.raises(openai.NotFoundError) as caught:
        api.models.retrieve("gpt-7")
    assert caught.value.code == "model_not_found"


def test_the_key_is_asked_for(shim: ShimProcess) -> None:
    with pytest.raises(openai.AuthenticationError):
        shim.client().models.list()


def test_the_request_id_comes_back(api: openai.OpenAI) -> None:
    answer = api.chat.completions.with_raw_response.create(
        model=ENSEMBLE, messages=MESSAGES, max_tokens=1, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert answer.headers["x-request-id"] == "mine-1"


def test_health(shim: ShimProcess) -> None:
    assert httpx.get(f"{shim.url}/livez").status_code == 200
    record = httpx.get(f"{shim.url}/health").json()
    assert record["status"] == "ready"
    assert "load" not in record["engines"]["local"], "whoever has no key learns no figures"
    record = httpx.get(f"{shim.url}/health", headers={"authorization": "Bearer s3cret"}).json()
    assert record["engines"]["local"]["load"]["blocks_total"] > 0
