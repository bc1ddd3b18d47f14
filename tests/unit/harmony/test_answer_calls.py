"""Calls in an answer: which ones are shown as such, what of them, and when they are complete. Golden cases: each is
a form in which real models write, or fail to write, a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from tests.unit.harmony.turns import any_turn, cut, cuts, ids

TOOLS = frozenset({"f", "get_weather", "python"})
NEXT = "<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
FINAL = "<|channel|>final<|message|>"

Shown = tuple[str, str, list[tuple[str, str]], bool]  # reasoning, content, calls, called


def shown(tokens: list[int], places: list[int] | None = None, tools: frozenset[str] = TOOLS) -> Shown:
    text = AnswerText(tools=tools)
    deltas = [delta for chunk in cut(tokens, places or []) for delta in text.feed(chunk)] + text.finish()
    calls: list[tuple[str, str]] = []
    for delta in deltas:
        if delta.kind == "tool_call":
            if delta.name is not None:
                assert (delta.text, delta.call) == ("", len(calls)), "announced in order, and without text"
                calls.append((delta.name, ""))
            else:
                assert delta.call == len(calls) - 1
                calls[-1] = (calls[-1][0], calls[-1][1] + delta.text)
    reasoning, content = ("".join(d.text for d in deltas if d.kind == k) for k in ("reasoning", "content"))
    return reasoning, content, calls, text.called


GOLDEN: dict[str, Shown] = {
    # as the model was trained to write it
    CALL + '{"a": 1}<|call|>': ("", "", [("f", '{"a": 1}')], True),
    " to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>": (
        "",
        "",
        [("f", "{}")],
        True,
    ),
    f"<|channel|>analysis<|message|>Hm.{NEXT}{CALL}{{}}<|call|>": ("Hm.", "", [("f", "{}")], True),
    f"<|channel|>commentary<|message|>I look.{NEXT}{CALL}{{}}<|call|>": ("", "I look.", [("f", "{}")], True),
    # variants of the header
    "<|channel|>commentary to=functions.f<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>": (
        "",
        "",
        [("f", "{}")],
        True,
    ),
    "<|channel|>commentary to=functions.f json<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>commentary to=functions.f code<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>commentary <|constrain|>json to=functions.f<|message|>{}<|call|>": (
        "",
        "",
        [("f", "{}")],
        True,
    ),
    "<|channel|>commentary to=f <|constrain|>json<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>analysis to=functions.f<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>final to=functions.f<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>thought to=functions.f<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    " to=functions.f<|message|>{}<|call|>": ("", "", [("f", "{}")], True),
    "<|channel|>commentary to=functions.f {}<|call|>": ("", "", [("f", " {}")], True),
    # arguments as they are, JSON or not
    CALL + '{"a":  1,\n "b": "<|x|>"}<|call|>': ("", "", [("f", '{"a":  1,\n "b": "<|x|>"}')], True),
    CALL + "<|call|>": ("", "", [("f", "")], True),
    CALL + "not json<|call|>": ("", "", [("f", "not json")], True),
    CALL + '{"é": "😀"}<|call|>': ("", "", [("f", '{"é": "😀"}')], True),
    # how it ends
    CALL + "{}<|end|>": ("", "", [("f", "{}")], True),
    CALL + "{}<|return|>": ("", "", [("f", "{}")], True),
    CALL + "{}<|endoftext|>": ("", "", [("f", "{}")], False),
    CALL + '{"a"': ("", "", [("f", '{"a"')], False),
    CALL: ("", "", [("f", "")], False),
    "<|channel|>commentary to=functions.f": ("", "", [], False),
    CALL + "{}<|start|>assistant" + FINAL + "Done.<|return|>": ("", "Done.", [("f", "{}")], False),
    CALL + "{}<|channel|>final<|message|>Done.<|return|>": ("", "Done.", [("f", "{}")], False),
    CALL + "{}" + NEXT + FINAL + "Done.<|return|>": ("", "Done.", [("f", "{}")], False),
    CALL + "{}<|call|>" + FINAL + "Done.<|return|>": ("", "Done.", [("f", "{}")], False),
    CALL + "{}<|call|><|start|>assistant": ("", "", [("f", "{}")], True),
    # several
    CALL + "1" + NEXT + CALL + "2<|call|>": ("", "", [("f", "1"), ("f", "2")], True),
    CALL + "1" + NEXT + CALL + "2": ("", "", [("f", "1"), ("f", "2")], False),
    CALL
    + "1<|call|><|start|>assistant"
    + CALL.replace("functions.f", "functions.get_weather")
    + "2<|call|>": (
        "",
        "",
        [("f", "1"), ("get_weather", "2")],
        True,
    ),
    # to nobody whom the caller knows
    "<|channel|>commentary to=functions.g<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>commentary to=functions.F<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>commentary to=functions.<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>commentary to=functions<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>commentary to=functions.functions.f<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>commentary to=tools.f<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>analysis to=browser.search code<|message|>{}<|call|>": ("{}", "", [], False),
    "<|channel|>analysis<|message|>Hm." + NEXT + " to=browser.open<|channel|>analysis<|message|>{}<|call|>": (
        "Hm.\n\n{}",
        "",
        [],
        False,
    ),
    "<|channel|>commentary to=assistant<|message|>{}<|call|>": ("{}", "", [], False),
    # a builtin's name that the caller gave to a function
    " to=python<|channel|>analysis code<|message|>1+1<|call|>": ("", "", [("python", "1+1")], True),
    # no call at all
    "<|channel|>commentary to=all<|message|>Hi.<|call|>": ("", "Hi.", [], False),
    '<|channel|>commentary<|message|>to=functions.f {"a": 1}<|call|>': (
        "",
        'to=functions.f {"a": 1}',
        [],
        False,
    ),
    '<|channel|>commentary json<|message|>{"a": 1}<|call|>': ("", '{"a": 1}', [], False),
    FINAL + "to=functions.f<|call|>": ("", "to=functions.f", [], False),
}


@pytest.mark.parametrize(("marked", "expected"), GOLDEN.items())
def test_golden(marked: str, expected: Shown) -> None:
    assert shown(ids(marked)) == expected
    assert shown(ids(marked), list(range(len(ids(marked))))) == expected, "token by token"


def test_there_are_enough_of_them() -> None:
    assert len(GOLDEN) >= 40


def test_without_declared_functions_there_are_no_calls() -> None:
    for marked in GOLDEN:
        reasoning, _, calls, called = shown(ids(marked), tools=frozenset())
        assert (calls, called) == ([], False)
        assert reasoning or "to=" not in marked or "{}" not in marked


def test_arguments_stream_as_they_come() -> None:
    text = AnswerText(tools=TOOLS)
    assert text.feed(ids(CALL)) == [AnswerDelta("tool_call", "", 0, "f")]
    assert text.feed(ids('{"a"')) == [AnswerDelta("tool_call", '{"a"', 0)]
    assert not text.called
    text.feed(ids(": 1}<|call|>"))
    assert text.called


@given(any_turn, cuts, st.sampled_from([TOOLS, frozenset({"f"}), frozenset()]))
def test_total_and_independent_of_chunks(turn: list[int], places: list[int], tools: frozenset[str]) -> None:
    whole = shown(turn, tools=tools)
    assert shown(turn, places, tools) == whole
    assert shown(turn, list(range(len(turn))), tools) == whole
    assert all(name in tools for name, _ in whole[2])
