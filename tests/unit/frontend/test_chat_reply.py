from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from frontend.chat_reply import ChatReply, fingerprint
from frontend.content_scores import ScoredDelta, TokenScore
from frontend.fold import Completion, Ending, GatheredCall, Part
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony.answer import AnswerDelta
from gpt_oss_triton.harmony.tokens import END, encode_text
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import TokenLogprobs
from tests.unit.frontend.chat_client import records
from tests.unit.frontend.fake_triton import LOAD

ENDING = Ending("stop", 2)
USAGE = TokenCounts(prompt=10, cached=3, completion=4, reasoning=2)
REASONING = AnswerDelta("reasoning", "hm")
CONTENT = AnswerDelta("content", "a\nb")
CALL = [
    AnswerDelta("tool_call", "", 0, "f"),
    AnswerDelta("tool_call", '{"a"', 0),
    AnswerDelta("tool_call", ":1}", 0),
]


def reply(*, include_usage: bool = False, reasoning_names: tuple[str, ...] = ("reasoning",)) -> ChatReply:
    return ChatReply(
        completion_id="chatcmpl-1",
        created=12,
        model='m "x"',
        system_fingerprint="fp_1",
        include_usage=include_usage,
        reasoning_names=reasoning_names,
    )


def chunks(parts: list[Part], encoder: ChatReply | None = None, index: int = 0) -> list[dict[str, Any]]:
    choice = (encoder or reply()).choice(index)
    return records(event for part in parts for event in choice.events(part))


def deltas(parts: list[Part]) -> list[dict[str, Any]]:
    return [item["choices"][0]["delta"] for item in chunks(parts)]


def whole(parts: list[Part], **options: Any) -> dict[str, Any]:
    completion = Completion()
    for part in parts:
        completion.add(part)
    item = json.loads(reply().completion([completion], USAGE, **options))
    ChatCompletion.model_validate(item, strict=True)
    choice: dict[str, Any] = item["choices"][0]
    return choice


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks_are_openai_chunks(include_usage: bool) -> None:
    items = chunks([REASONING, CONTENT, *CALL, ENDING], reply(include_usage=include_usage))
    for item in items:
        ChatCompletionChunk.model_validate(item, strict=True)
        assert (item["id"], item["model"], item["created"]) == ("chatcmpl-1", 'm "x"', 12)
        assert ("usage" in item) is include_usage
        assert item.get("usage") is None
    assert [item["choices"][0]["finish_reason"] for item in items] == [None] * 6 + ["stop"]


def test_the_role_comes_first_and_once() -> None:
    assert deltas([REASONING, CONTENT, ENDING]) == [
        {"role": "assistant"},
        {"reasoning": "hm"},
        {"content": "a\nb"},
        {},
    ]
    assert deltas([CONTENT])[0] == {"role": "assistant", "content": ""}


def test_id_and_name_of_a_call_come_once() -> None:
    _, first, *rest, _ = deltas([*CALL, ENDING])
    (announced,) = first["tool_calls"]
    assert announced.pop("id").startswith("call_")
    assert announced == {"index": 0, "type": "function", "function": {"name": "f", "arguments": ""}}
    assert [delta["tool_calls"] for delta in rest] == [
        [{"index": 0, "function": {"arguments": '{"a"'}}],
        [{"index": 0, "function": {"arguments": ":1}"}}],
    ]


def test_an_answer_of_nothing_has_empty_content_and_not_null() -> None:
    assert deltas([REASONING, ENDING])[-1] == {"content": ""}
    assert whole([REASONING, ENDING])["message"]["content"] == ""
    assert deltas([*CALL, ENDING])[-1] == {}
    assert whole([*CALL, ENDING])["message"]["content"] is None


def test_usage_chunk() -> None:
    (item,) = records([reply(include_usage=True).usage(USAGE)])
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
    assert whole([REASONING, CONTENT, ENDING]) == {
        "index": 0,
        "message": {"role": "assistant", "content": "a\nb", "reasoning": "hm", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_a_completion_with_calls() -> None:
    choice = whole([*CALL, AnswerDelta("tool_call", "", 1, "g"), Ending("tool_calls", 0)])
    assert choice["finish_reason"] == "tool_calls"
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": ""},
    ]
    assert len({call["id"] for call in calls}) == 2


def test_several_answers() -> None:
    answers = [Completion(content=[text], calls=[GatheredCall("f")], ending=ENDING) for text in "ab"]
    item = json.loads(reply().completion(answers, USAGE))
    ChatCompletion.model_validate(item, strict=True)
    assert [(c["index"], c["message"]["content"]) for c in item["choices"]] == [(0, "a"), (1, "b")]
    assert len({c["message"]["tool_calls"][0]["id"] for c in item["choices"]}) == 2
    assert (item["usage"]["prompt_tokens"], item["usage"]["completion_tokens"]) == (10, 4)
    assert [item["choices"][0]["index"] for item in chunks([CONTENT, ENDING], index=3)] == [3, 3, 3]


def test_an_answer_without_an_end_is_an_error() -> None:
    with pytest.raises(InternalError):
        reply().completion([Completion(content=["a"])], USAGE)


def test_the_reasonings_name_is_an_option() -> None:
    both = reply(reasoning_names=("reasoning", "reasoning_content"))
    _, item = chunks([REASONING], both)
    assert item["choices"][0]["delta"] == {"reasoning": "hm", "reasoning_content": "hm"}
    message = json.loads(both.completion([Completion(["hm"], ending=ENDING)], USAGE))["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"]) == ("hm", "hm")


def test_logprobs() -> None:
    (token,) = encode_text("é")
    scores = [TokenScore(token, TokenLogprobs(-0.5, [(token, -0.5), (END, float("-inf"))]))]
    scored = ScoredDelta("content", "é", scores=scores)
    expected = {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [
                    {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                    {"token": "<|end|>", "logprob": -9999.0, "bytes": list(b"<|end|>")},
                ],
            }
        ],
        "refusal": None,
    }
    role, content, end = chunks([scored, ENDING])
    assert content["choices"][0]["logprobs"] == expected
    assert role["choices"][0]["logprobs"] is end["choices"][0]["logprobs"] is None
    ChatCompletionChunk.model_validate(content, strict=True)
    assert whole([scored, ENDING], logprobs=True)["logprobs"] == expected
    assert whole([*CALL, ENDING], logprobs=True)["logprobs"] == {"content": [], "refusal": None}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str) -> None:
    assert deltas([AnswerDelta("content", text)])[1]["content"] == text


def test_fingerprint_is_stable_for_one_backend() -> None:
    assert fingerprint(LOAD) == fingerprint(LOAD)
    assert fingerprint(LOAD) != fingerprint(None)


@pytest.mark.parametrize("text", ["\u2028", "a\x85b", "\u2029 \x0b \x0c \x1c\x1d\x1e \r\n"])
def test_no_text_breaks_a_line(text: str) -> None:
    _, event = reply().choice(0).events(AnswerDelta("content", text))
    assert len(event.decode().splitlines()) == 2, "the data, and the empty line that ends the event"


def test_token_ids_come_with_the_end_for_those_who_ask() -> None:
    asked = Ending("stop", 2, [1, 2])
    assert chunks([asked])[-1]["choices"][0]["token_ids"] == [1, 2]
    assert "token_ids" not in chunks([ENDING])[-1]["choices"][0]
    assert whole([asked])["token_ids"] == [1, 2]
    assert "token_ids" not in whole([ENDING])
