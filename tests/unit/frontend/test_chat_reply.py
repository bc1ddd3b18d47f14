from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from frontend.chat_reply import ChatReply, fingerprint
from frontend.fold import Completion, Ending, Usage
from gpt_oss_triton.harmony.answer import AnswerDelta
from tests.unit.frontend.fake_triton import LOAD

ENDING = Ending("stop", Usage(10, 4, 3, 2))


def reply(*, include_usage: bool) -> ChatReply:
    return ChatReply(
        completion_id="chatcmpl-1",
        created=12,
        model='m "x"',
        system_fingerprint="fp_1",
        include_usage=include_usage,
    )


def record(event: bytes) -> dict[str, Any]:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    result: dict[str, Any] = json.loads(event[6:])
    return result


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks_are_openai_chunks(include_usage: bool) -> None:
    encoder = reply(include_usage=include_usage)
    events = [
        encoder.role(),
        encoder.delta(AnswerDelta("reasoning", "hm")),
        encoder.delta(AnswerDelta("content", "a\nb")),
        encoder.end(ENDING),
    ]
    records = [record(event) for event in events]
    for item in records:
        ChatCompletionChunk.model_validate(item, strict=True)
        assert item["model"] == 'm "x"'
        assert ("usage" in item) is include_usage
        assert item.get("usage") is None
    deltas = [item["choices"][0]["delta"] for item in records]
    assert deltas == [{"role": "assistant", "content": ""}, {"reasoning": "hm"}, {"content": "a\nb"}, {}]
    assert [item["choices"][0]["finish_reason"] for item in records] == [None, None, None, "stop"]


def test_usage_chunk() -> None:
    item = record(reply(include_usage=True).usage(ENDING))
    ChatCompletionChunk.model_validate(item, strict=True)
    assert item["choices"] == []
    assert item["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_completion() -> None:
    completion = Completion(["h", "m"], ["ye", "s"])
    item = json.loads(reply(include_usage=False).completion(completion, ENDING))
    ChatCompletion.model_validate(item, strict=True)
    assert item["object"] == "chat.completion"
    assert item["choices"][0]["message"] == {
        "role": "assistant",
        "content": "yes",
        "reasoning": "hm",
        "refusal": None,
    }


@given(st.text())
def test_any_text_survives(text: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    item = record(reply(include_usage=False).delta(AnswerDelta("content", text)))
    assert item["choices"][0]["delta"]["content"] == text


def test_fingerprint_is_stable_for_one_backend() -> None:
    assert fingerprint(LOAD) == fingerprint(LOAD)
    assert fingerprint(LOAD) != fingerprint(None)


@pytest.mark.parametrize("text", ["\u2028", "a\x85b", "\u2029 \x0b \x0c \x1c\x1d\x1e \r\n"])
def test_no_text_breaks_a_line(text: str) -> None:
    event = reply(include_usage=False).delta(AnswerDelta("content", text))
    assert len(event.decode().splitlines()) == 2, "the data, and the empty line that ends the event"
    assert record(event)["choices"][0]["delta"]["content"] == text


def test_token_ids_come_with_the_end_for_those_who_ask() -> None:
    asked = Ending("stop", ENDING.usage, [1, 2])
    encoder = reply(include_usage=False)
    assert record(encoder.end(asked))["choices"][0]["token_ids"] == [1, 2]
    assert "token_ids" not in record(encoder.end(ENDING))["choices"][0]
    whole = json.loads(encoder.completion(Completion(), asked))
    assert whole["choices"][0]["token_ids"] == [1, 2]
    assert "token_ids" not in json.loads(encoder.completion(Completion(), ENDING))["choices"][0]
