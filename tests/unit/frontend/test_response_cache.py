from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.fold import AnswerFold, Completion
from frontend.response_cache import ResponseCache
from frontend.triton import Answer
from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.wire import (
    Finished,
    GenerationOptions,
    Lease,
    Message,
    PromptInfo,
    PromptRequest,
    Timings,
)
from tests.unit.frontend.harmony_turn import turn
from tests.unit.frontend.routing.fake_targets import Clock

TTL_S = 300.0
PROMPT = PromptRequest([Message("user", "It is 10:11 here. Where am I?")])
GREEDY = GenerationOptions(temperature=0, max_tokens=9)
TOKENS = turn("let me think", "Nowhere.")
END = Finished(
    "stop",
    40,
    len(TOKENS),
    16,
    preemptions=1,
    blocks=3,
    timings=Timings(1.0),
    prompt=PromptInfo("h", "k", "v1"),
)
ANSWERS = [Answer(TOKENS[:5], None), Answer(TOKENS[5:], END)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> ResponseCache:
    return ResponseCache(3, TTL_S, clock=clock)


def key(cache: ResponseCache, **fields: Any) -> bytes | None:
    parts = {"salt": "s", "ensemble": "e", "fingerprint": "fp", "prompt": PROMPT, "options": GREEDY}
    return cache.key(**(parts | fields))


async def given_by_an_engine(answers: list[Answer], error: Exception | None = None) -> AsyncIterator[Answer]:
    for answer in answers:
        yield answer
    if error is not None:
        raise error


def record(cache: ResponseCache, name: bytes, answers: list[Answer] = ANSWERS) -> list[Answer]:
    async def run() -> list[Answer]:
        return [answer async for answer in cache.record(name, given_by_an_engine(answers))]

    return asyncio.run(run())


def reply(answers: AsyncIterator[Answer]) -> tuple[Any, Any]:
    async def run() -> Completion:
        fold, completion = AnswerFold(AnswerText([])), Completion()
        async for answer in answers:
            for part in fold.feed(answer):
                completion.add(part)
        return completion

    completion = asyncio.run(run())
    return completion, completion.ending


def test_the_same_answer_comes_back(cache: ResponseCache) -> None:
    assert cache.replay(b"1") is None
    assert record(cache, b"1") == ANSWERS, "while it is recorded it passes as it is"
    replayed = cache.replay(b"1")
    assert replayed is not None
    completion, ending = reply(replayed)
    original, original_ending = reply(given_by_an_engine(ANSWERS))
    assert "".join(completion.reasoning) == "".join(original.reasoning) == "let me think"
    assert "".join(completion.content) == "".join(original.content) == "Nowhere."
    assert (ending.finish_reason, ending.token_ids) == (
        original_ending.finish_reason,
        original_ending.token_ids,
    )
    assert (cache.stats()["hits"], cache.stats()["misses"], cache.stats()["entries"]) == (1, 1, 1)


def test_how_it_was_computed_is_not_told_again(cache: ResponseCache) -> None:
    record(cache, b"1")

    async def last() -> Any:
        replayed = cache.replay(b"1")
        assert replayed is not None
        return [answer async for answer in replayed][-1].event

    finished = asyncio.run(last())
    assert (finished.timings, finished.prompt, finished.blocks, finished.preemptions) == (None, None, 0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"salt": "another caller"},
        {"ensemble": "gpt-oss-120b"},
        {"fingerprint": "another engine"},
        {"prompt": PromptRequest([Message("user", "It is 10:12 here. Where am I?")])},
        {"prompt": PromptRequest(PROMPT.messages, "high")},
        {"options": msgspec.structs.replace(GREEDY, max_tokens=10)},
        {"options": msgspec.structs.replace(GREEDY, seed=1)},
    ],
)
def test_whatever_may_change_an_answer_is_in_its_key(cache: ResponseCache, other: dict[str, Any]) -> None:
    assert key(cache) is not None
    assert key(cache, **other) not in (None, key(cache))


def test_a_lease_changes_nothing(cache: ResponseCache) -> None:
    leased = msgspec.structs.replace(GREEDY, lease=Lease("session", 180.0))
    assert key(cache, options=leased) == key(cache)


@pytest.mark.parametrize("options", [GenerationOptions(), GenerationOptions(temperature=0.1, seed=7)])
def test_sampled_answers_are_not_kept(cache: ResponseCache, options: GenerationOptions) -> None:
    assert key(cache, options=options) is None


def test_answers_with_log_probabilities_are_not_kept(cache: ResponseCache) -> None:
    assert key(cache, options=msgspec.structs.replace(GREEDY, logprobs=0)) is None


def test_it_is_off_unless_it_is_configured() -> None:
    assert key(ResponseCache(0, TTL_S)) is None


def test_an_answer_without_its_end_is_not_kept(cache: ResponseCache) -> None:
    async def run() -> None:
        async for _ in cache.record(b"1", given_by_an_engine(ANSWERS[:1], EngineUnavailable("lost"))):
            pass

    with pytest.raises(EngineUnavailable):
        asyncio.run(run())
    assert cache.replay(b"1") is None


def test_answers_get_old(cache: ResponseCache, clock: Clock) -> None:
    record(cache, b"1")
    clock.now += TTL_S - 1
    assert cache.replay(b"1") is not None
    clock.now += 1
    assert cache.replay(b"1") is None
    assert cache.stats()["entries"] == 0


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3000)), max_size=40))
def test_it_is_bounded_in_entries_and_bytes(entries: int, recorded: list[tuple[int, int]]) -> None:
    max_bytes = 10_000
    cache = ResponseCache(entries, TTL_S, max_bytes, Clock())
    for name, tokens in recorded:
        record(cache, bytes([name]), [Answer([1] * tokens, END)])
        stats = cache.stats()
        assert stats["entries"] <= entries
        assert stats["bytes"] <= max_bytes
        assert (cache.replay(bytes([name])) is not None) == (4 * tokens + 1024 <= max_bytes)
