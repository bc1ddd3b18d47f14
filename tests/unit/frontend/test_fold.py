from __future__ import annotations

import itertools

import pytest

from frontend.content_scores import ScoredDelta
from frontend.fold import AnswerFold, Completion, Ending, Part
from frontend.triton import Answer
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.harmony.tokens import encode_text
from gpt_oss_triton.wire import Finished, FinishReason, Logprobs, TokenLogprobs
from tests.unit.frontend.harmony_turn import NEXT, call, final, preamble, thought, turn

TOOLS = frozenset({"f", "python"})


def chunked(tokens: list[int], cuts: list[int], reason: FinishReason = "stop") -> list[Answer]:
    """`tokens` cut at `cuts`; the end comes with the last piece."""
    edges = sorted({min(cut, len(tokens)) for cut in cuts} | {0, len(tokens)})
    pieces = [tokens[a:b] for a, b in itertools.pairwise(edges)] or [[]]
    answers = [Answer(piece, None) for piece in pieces]
    answers[-1].event = Finished(reason, prompt_tokens=5, completion_tokens=len(tokens), cached_tokens=2)
    return answers


def parts_of(fold: AnswerFold, answers: list[Answer]) -> list[Part]:
    return [part for answer in answers for part in fold.feed(answer)]


def gathered(
    tokens: list[int],
    *,
    stop: tuple[str, ...] = (),
    tools: frozenset[str] = TOOLS,
    reason: FinishReason = "stop",
) -> tuple[Completion, Ending]:
    completion = Completion()
    for part in parts_of(AnswerFold(AnswerText(stop, tools)), chunked(tokens, [3, 9], reason)):
        completion.add(part)
    assert completion.ending is not None
    return completion, completion.ending


def shown(
    tokens: list[int], tools: frozenset[str] = TOOLS, reason: FinishReason = "stop"
) -> tuple[str, str, list[tuple[str, str]], str]:
    """Reasoning, content, calls and finish reason."""
    completion, ending = gathered(tokens, tools=tools, reason=reason)
    calls = [(made.name, "".join(made.arguments)) for made in completion.calls]
    return "".join(completion.reasoning), "".join(completion.content), calls, ending.finish_reason


def test_a_turn() -> None:
    assert shown(turn("think", "Hello, world.")) == ("think", "Hello, world.", [], "stop")
    _, ending = gathered(turn("think", "Hello, world."))
    assert ending.reasoning_tokens == 1


def test_a_call_ends_the_turn() -> None:
    tokens = [*thought("I need f."), *NEXT, *preamble("Let me look."), *NEXT, *call("f", '{"a": 1}')]
    assert shown(tokens) == ("I need f.", "Let me look.", [("f", '{"a": 1}')], "tool_calls")


def test_a_call_without_arguments_is_a_call() -> None:
    assert shown(call("f", "")) == ("", "", [("f", "")], "tool_calls")


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a": 1}', ""])
def test_length_wins_in_the_middle_of_a_call(arguments: str) -> None:
    cut = call("f", arguments, closed=False)
    assert shown(cut, reason="length") == ("", "", [("f", arguments)], "length")
    assert shown(cut)[3] == "stop", "a call that is not complete is none to be answered"
    assert shown(call("f", arguments), reason="length")[3] == "length"


@pytest.mark.parametrize("name", ["g", "browser.search", "f.g", "F"])
def test_calls_of_what_nobody_declared_are_reasoning(name: str) -> None:
    assert shown([*thought("Hm."), *NEXT, *call(name, "{}")]) == ("Hm.\n\n{}", "", [], "stop")


def test_a_builtin_is_a_function_where_it_was_declared() -> None:
    tokens = (
        encode_text(" to=python") + call("x", "")[0:1] + encode_text("analysis code") + thought("1+1")[2:]
    )
    tokens = [*tokens, 200_012]
    assert shown(tokens) == ("", "", [("python", "1+1")], "tool_calls")
    assert shown(tokens, tools=frozenset({"f"})) == ("1+1", "", [], "stop")


def test_two_calls_and_what_comes_after_them() -> None:
    two = [*call("f", "{}", closed=False), *NEXT, *call("python", "[]")]
    assert shown(two) == ("", "", [("f", "{}"), ("python", "[]")], "tool_calls")
    assert shown([*call("f", "{}", closed=False), *NEXT, *final("Done.")]) == (
        "",
        "Done.",
        [("f", "{}")],
        "stop",
    )


def test_a_call_is_announced_once_and_its_arguments_come_as_they_are() -> None:
    parts = parts_of(
        AnswerFold(AnswerText((), TOOLS)), [Answer([token], None) for token in call("f", '{"a" :  1}')]
    )
    assert parts[0] == AnswerDelta("tool_call", "", 0, "f")
    assert all(isinstance(p, AnswerDelta) and (p.call, p.name) == (0, None) for p in parts[1:])
    assert len(parts) > 3


def test_a_stop_string_ends_the_content_and_not_the_reasoning() -> None:
    completion, _ = gathered(turn("a END b", "one END two"), stop=("END",))
    assert ("".join(completion.reasoning), "".join(completion.content)) == ("a END b", "one ")


def test_a_stop_string_leaves_arguments_alone() -> None:
    completion, ending = gathered(call("f", '{"a": "END"}'), stop=("END",))
    assert "".join(completion.calls[0].arguments) == '{"a": "END"}'
    assert ending.finish_reason == "tool_calls"


def test_truncated_reasoning_has_finish_reason_length() -> None:
    assert shown(turn("a long thought", "never reached")[:5], reason="length")[1::2] == ("", "length")


def test_token_ids_are_gathered_for_those_who_ask() -> None:
    tokens = turn("a", "b")
    *_, ending = parts_of(AnswerFold(AnswerText(), return_token_ids=True), chunked(tokens, [4]))
    assert isinstance(ending, Ending)
    assert ending.token_ids == tokens


# ------------------------------------------------------------------------------- log-probabilities


def scored(tokens: list[int], stop: tuple[str, ...] = ()) -> list[tuple[str, list[int]]]:
    """Each content delta with the tokens of its scores, whose log-probability is minus their place."""
    fold = AnswerFold(AnswerText(stop, TOOLS), scored=True)
    answers = [Answer([t], Logprobs([TokenLogprobs(-i, [(t, -i)])])) for i, t in enumerate(tokens)]
    answers.append(Answer([], Finished("stop", 5, len(tokens))))
    found = []
    for part in parts_of(fold, answers):
        if isinstance(part, ScoredDelta):
            assert all(tokens[-int(s.logprobs.logprob)] == s.token_id for s in part.scores)
            found.append((part.text, [score.token_id for score in part.scores]))
        else:
            assert not isinstance(part, AnswerDelta) or part.kind != "content"
    return found


def test_scores_are_those_of_the_content() -> None:
    content = encode_text("Hello there!")
    expected = [(text, [token]) for text, token in zip(("Hello", " there", "!"), content, strict=True)]
    assert scored(turn("think", "Hello there!")) == expected
    assert scored([*thought("x"), *NEXT, *preamble("Hello there!"), *NEXT, *call("f", "{}")]) == expected
    assert scored(call("f", "{}")) == []


def test_scores_wait_for_text_that_is_held_back() -> None:
    held = scored(turn("t", "a <b c"), stop=("<b>",))
    assert "".join(text for text, _ in held) == "a <b c"
    assert [token for _, ids in held for token in ids] == encode_text("a <b c")
    assert [token for _, ids in scored(turn("t", "a<b>"), stop=("<b>",)) for token in ids] == encode_text("a")


def test_scores_of_a_character_over_tokens_come_together() -> None:
    tokens = final("🫠")
    (found,) = scored(tokens)
    assert found == ("🫠", encode_text("🫠"))
    assert len(found[1]) > 1


def test_an_engine_that_leaves_scores_out_has_failed() -> None:
    with pytest.raises(InternalError):
        AnswerFold(AnswerText(), scored=True).feed(Answer([1, 2], Logprobs([TokenLogprobs(0.0, [])])))


def test_scores_may_come_with_the_end() -> None:
    tokens = final("Hi")
    end = Finished("stop", 5, len(tokens), logprobs=[TokenLogprobs(-1.0, [])] * len(tokens))
    delta, _ = AnswerFold(AnswerText(), scored=True).feed(Answer(tokens, end))
    assert isinstance(delta, ScoredDelta)
    assert [score.token_id for score in delta.scores] == encode_text("Hi")
