"""A streamed answer, put together as a client does it, equals the unstreamed one, field by field."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from frontend.chat_reply import ChatReply
from frontend.fold import AnswerFold, Completion
from frontend.triton import Answer
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import Finished, FinishReason, Logprobs, TokenLogprobs
from tests.unit.frontend.chat_client import folded, records
from tests.unit.frontend.harmony_turn import NEXT, call, final, preamble, thought
from tests.unit.harmony.turns import any_turn, cut, cuts

TOOLS = frozenset({"get_weather", "python"})
REPLY = ChatReply(
    completion_id="chatcmpl-1", created=1, model="m", system_fingerprint="fp_1", include_usage=True
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
messages = st.one_of(
    st.builds(thought, texts),
    st.builds(preamble, texts),
    st.builds(final, texts),
    st.builds(call, st.sampled_from(["get_weather", "python", "undeclared"]), texts, closed=st.booleans()),
)
written = st.lists(messages, min_size=1, max_size=4).map(
    lambda turns: [token for index, turn in enumerate(turns) for token in ([*NEXT, *turn] if index else turn)]
)
answers = st.tuples(written | any_turn, st.sampled_from(["stop", "length"]))
stops = st.lists(st.sampled_from(["a", "ab", "\n", "é", "}"]), max_size=2)


def responses(tokens: list[int], places: list[int], reason: FinishReason, scored: bool) -> list[Answer]:
    end = Finished(reason, prompt_tokens=5, completion_tokens=len(tokens), cached_tokens=2)
    found = []
    for chunk in cut(tokens, places):
        logprobs = Logprobs([TokenLogprobs(-0.25, [(token, -0.25)]) for token in chunk if token < 201_088])
        found.append(Answer(list(chunk), logprobs if scored else None))
    return [*found, Answer([], end)]


def fold(stop: list[str], scored: bool, token_ids: bool) -> AnswerFold:
    return AnswerFold(AnswerText(stop, TOOLS), return_token_ids=token_ids, scored=scored)


@given(st.lists(answers, min_size=1, max_size=3), stops, cuts, cuts, st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_equal_field_by_field(
    scripts: list[tuple[list[int], FinishReason]],
    stop: list[str],
    some: list[int],
    others: list[int],
    scored: bool,
    token_ids: bool,
) -> None:
    in_vocabulary = [([t for t in tokens if 0 <= t < 201_088], reason) for tokens, reason in scripts]
    events: list[bytes] = []
    gathered: list[Completion] = []
    for index, (tokens, reason) in enumerate(in_vocabulary):
        choice, streaming = REPLY.choice(index), fold(stop, scored, token_ids)
        for answer in responses(tokens, some, reason, scored):
            for part in streaming.feed(answer):
                events += choice.events(part)
        gathered.append(Completion())
        unstreamed = fold(stop, scored, token_ids)
        for answer in responses(tokens, others, reason, scored):
            for part in unstreamed.feed(answer):
                gathered[-1].add(part)
    usage = TokenCounts(5, 2, 9, 4)
    chunks = records([*events, REPLY.usage(usage)])
    whole = json.loads(REPLY.completion(gathered, usage, logprobs=scored))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    ChatCompletion.model_validate(whole, strict=True)
    assert chunks[-1]["usage"] == whole["usage"]
    streamed = folded(chunks)
    assert len(streamed) == len(whole["choices"])
    for choice_whole in whole["choices"]:
        compare(streamed[choice_whole["index"]], choice_whole)


def compare(streamed: dict[str, Any], whole: dict[str, Any]) -> None:
    assert streamed["finish_reason"] == whole["finish_reason"]
    expected = {name: value for name, value in whole["message"].items() if value is not None}
    assert {name: value for name, value in streamed["message"].items() if value is not None} == expected
    assert streamed.get("token_ids") == whole.get("token_ids")
    expected_logprobs = whole["logprobs"] and whole["logprobs"]["content"]
    assert (streamed.get("logprobs") or {"content": []})["content"] == (expected_logprobs or [])
