from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from frontend.chat_reply import ChatReply
from frontend.fold import Ending, fold, gather
from frontend.triton import Answer
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.wire import Finished
from tests.unit.frontend.harmony_turn import turn

REPLY = ChatReply(
    completion_id="chatcmpl-1", created=1, model="m", system_fingerprint="fp_1", include_usage=True
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def chunked(tokens: list[int], cuts: list[int]) -> list[Answer]:
    """`tokens` cut at `cuts`; the end comes with the last piece."""
    edges = sorted({min(cut, len(tokens)) for cut in cuts} | {0, len(tokens)})
    pieces = [tokens[a:b] for a, b in itertools.pairwise(edges)] or [[]]
    answers = [Answer(piece, None) for piece in pieces]
    answers[-1].event = Finished("stop", prompt_tokens=5, completion_tokens=len(tokens), cached_tokens=2)
    return answers


async def replay(answers: list[Answer]) -> AsyncIterator[Answer]:
    for answer in answers:
        yield answer


def parts_of(answers: list[Answer], stop: list[str], *, include_reasoning: bool = True) -> list[Any]:
    async def run() -> list[Any]:
        parts = fold(replay(answers), AnswerText(stop), include_reasoning=include_reasoning)
        return [part async for part in parts]

    return asyncio.run(run())


def unstreamed(answers: list[Answer], stop: list[str]) -> dict[str, Any]:
    async def run() -> bytes:
        parts = fold(replay(answers), AnswerText(stop), include_reasoning=True)
        return REPLY.completion(*await gather(parts))

    record: dict[str, Any] = json.loads(asyncio.run(run()))
    return record


@given(
    TEXT,
    TEXT,
    st.lists(st.integers(0, 120)),
    st.lists(st.integers(0, 120)),
    st.lists(TEXT.filter(bool), max_size=2),
)
def test_streamed_and_unstreamed_are_equal_under_any_chunking(
    reasoning: str, content: str, some_cuts: list[int], other_cuts: list[int], stop: list[str]
) -> None:
    tokens = turn(reasoning, content)
    streamed: dict[str, str] = {"reasoning": "", "content": ""}
    ending: Ending | None = None
    for part in parts_of(chunked(tokens, some_cuts), stop):
        assert ending is None, "the ending comes last"
        if isinstance(part, Ending):
            ending = part
        else:
            streamed[part.kind] += part.text
    assert ending is not None
    whole = unstreamed(chunked(tokens, other_cuts), stop)
    message = whole["choices"][0]["message"]
    assert (message["reasoning"] or "", message["content"]) == (streamed["reasoning"], streamed["content"])
    assert whole["usage"] == json.loads(REPLY.usage(ending).removeprefix(b"data: "))["usage"]


def test_a_turn() -> None:
    whole = unstreamed(chunked(turn("think", "Hello, world."), [3, 9]), [])
    choice = whole["choices"][0]
    assert (choice["message"]["reasoning"], choice["message"]["content"]) == ("think", "Hello, world.")
    assert choice["finish_reason"] == "stop"
    usage = whole["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_reasoning_is_dropped_on_request_but_counted() -> None:
    parts = parts_of(chunked(turn("think hard", "Yes."), []), [], include_reasoning=False)
    assert {part.kind for part in parts[:-1]} == {"content"}
    assert parts[-1].usage.reasoning_tokens > 0


def test_a_stop_string_ends_the_content_and_not_the_reasoning() -> None:
    whole = unstreamed(chunked(turn("a END b", "one END two"), [7]), ["END"])
    assert whole["choices"][0]["message"]["reasoning"] == "a END b"
    assert whole["choices"][0]["message"]["content"] == "one "


def test_truncated_reasoning_has_finish_reason_length() -> None:
    tokens = turn("a long thought", "never reached")[:5]
    answers = [Answer(tokens, Finished("length", 5, len(tokens)))]
    choice = unstreamed(answers, [])["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")


def test_an_answer_without_an_end_is_an_error() -> None:
    async def run() -> None:
        await gather(fold(replay([Answer([], None)]), AnswerText(), include_reasoning=True))

    try:
        asyncio.run(run())
    except InternalError:
        return
    raise AssertionError("no error")
