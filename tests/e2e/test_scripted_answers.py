"""Wire conformance: answers that are known to the letter, through tritonserver and the shim to the real client."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, DirectClient

REASONING = "The user greets – so do I. 日本語 🙂"
CONTENT = "Grüße! 👋🏽 Two\n\nparagraphs."
LOW = ("An even or odd thought.", "Low answer: one, two, three.")
HIGH = ("", "High answer: eight, nine, ten – and more.")
SENTENCE = "The quick brown fox jumps over the lazy dog. "
STREAMS = 64


@pytest.fixture(scope="module")
def api(scripted_shim: ShimProcess) -> openai.OpenAI:
    return scripted_shim.client()


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": ENSEMBLE, "messages": [{"role": "user", "content": text}], **fields}


def fold(chunks: Any) -> tuple[str, str, str | None]:
    """Reasoning, content and finish reason."""
    reasoning, content, finish = "", "", None
    for chunk in chunks:
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return reasoning, content, finish


def idle(scripted: TritonServer) -> bool:
    load = DirectClient(scripted.grpc_url).load()
    return (load.running, load.waiting) == (0, 0)


def test_the_answer_is_the_scripts_to_the_letter(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(**asking("Use both channels, please."))
    message = whole.choices[0].message
    assert (message.reasoning, message.content) == (REASONING, CONTENT)  # type: ignore[attr-defined]
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 17
    streamed = fold(api.chat.completions.create(**asking("Use both channels, please."), stream=True))
    assert streamed == (REASONING, CONTENT, "stop")


def test_an_answer_that_just_stops_was_cut(api: openai.OpenAI) -> None:
    assert fold(api.chat.completions.create(**asking("no end"), stream=True)) == (
        "",
        "It just stops",
        "length",
    )


def test_limits_and_stop_strings_are_kept(api: openai.OpenAI, scripted: TritonServer) -> None:
    limited = api.chat.completions.create(**asking("without an end", max_tokens=13))
    assert limited.choices[0].finish_reason == "length"
    assert limited.usage is not None
    assert limited.usage.completion_tokens == 13
    stopped = api.chat.completions.create(**asking("without an end", stop=["dull"]))
    assert stopped.choices[0].message.content == "All work and no play makes a "
    assert stopped.choices[0].finish_reason == "stop"
    assert idle(scripted)


def test_an_error_in_the_middle_is_the_streams_last_word(
    scripted_shim: ShimProcess, api: openai.OpenAI
) -> None:
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(api.chat.completions.create(**asking("it fails in the middle"), stream=True))
    assert caught.value.code == "internal_error"
    _, content, finish = fold(chunks)  # a list keeps what was taken before the error
    assert content
    assert "One two three four five six seven eight nine ten".startswith(content)
    assert finish is None
    raw = httpx.post(
        f"{scripted_shim.url}/v1/chat/completions",
        json=asking("it fails in the middle", stream=True),
        timeout=60,
    )
    assert raw.status_code == 200
    assert "[DONE]" not in raw.text
    assert '"error"' in raw.text.strip().rpartition("data: ")[2]


def test_the_same_error_is_a_status_where_nothing_was_sent(api: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        api.chat.completions.create(**asking("it fails in the middle"))
    assert (caught.value.status_code, caught.value.code) == (500, "internal_error")


def test_a_prompt_without_an_answer_and_one_that_is_refused(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no answer for this prompt") as caught:
        api.chat.completions.create(**asking("What?"))
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError, match="The script says so"):
        api.chat.completions.create(**asking("this is refused"), stream=True)


def test_a_client_that_goes_frees_the_engine(api: openai.OpenAI, scripted: TritonServer, until: Any) -> None:
    with api.chat.completions.create(**asking("slowly"), stream=True) as stream:
        next(iter(stream))
        assert not idle(scripted)
    until(lambda: idle(scripted), "the cancelled answer is gone")


def test_a_slow_reader_gets_everything(scripted_shim: ShimProcess) -> None:
    """20,000 tokens wait for a reader that takes its time at first."""
    content, data = "", ""
    with httpx.stream(
        "POST", f"{scripted_shim.url}/v1/chat/completions", json=asking("big answer", stream=True), timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if not data:
                time.sleep(2)
            data = line.removeprefix("data: ") or data
            if line and data != "[DONE]":
                content += json.loads(data)["choices"][0]["delta"].get("content") or ""
    assert data == "[DONE]"
    body = 20_000 - len(["<|channel|>", "final", "<|message|>", "<|return|>"])
    assert content == tokens.decode(itertools.islice(itertools.cycle(tokens.encode_text(SENTENCE)), body))


async def _streams(url: str) -> list[tuple[str, str, str | None]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:

        async def one(index: int) -> tuple[str, str, str | None]:
            stream = await api.chat.completions.create(**asking(f"stream {index}"), stream=True)
            return fold([chunk async for chunk in stream])

        return await asyncio.gather(*(one(index) for index in range(STREAMS)))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_many_streams_at_once_are_each_exact(scripted_shim: ShimProcess) -> None:
    for index, answer in enumerate(await _streams(scripted_shim.url)):
        assert answer == (*(LOW if index % 10 < 5 else HIGH), "stop")
