from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.harmony.tokens import encode_text
from tests.unit.harmony.turns import any_turn, byte_ids, cut, cuts, ids

FINAL = "<|channel|>final<|message|>"
NEXT_FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"


def answer(turn: list[int], stop: list[str], places: list[int] | None = None) -> tuple[str, str, str | None]:
    """Reasoning, content and the stop string of a whole turn."""
    text = AnswerText(stop)
    deltas = [delta for chunk in cut(turn, places or []) for delta in text.feed(chunk)] + text.finish()
    assert all(delta.text for delta in deltas)
    assert not text.called, "nothing was declared"
    reasoning = "".join(delta.text for delta in deltas if delta.kind == "reasoning")
    return reasoning, "".join(delta.text for delta in deltas if delta.kind == "content"), text.stopped


def expected(text: str, stop: list[str]) -> tuple[str, str | None]:
    """The rule, word for word: the first end at which any string ends, the longest of those."""
    for end in range(1, len(text) + 1):
        if matches := [string for string in stop if text[:end].endswith(string)]:
            longest = max(matches, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(cuts)
def test_nothing_after_a_match_counts(places: list[int]) -> None:
    tail = "<|end|><|start|>assistant<|channel|>analysis<|message|>more thoughts"
    text = AnswerText(["b"])
    for chunk in cut(ids(FINAL + "abc" + tail), places):
        text.feed(chunk)
    assert (text.stopped, text.reasoning_tokens) == ("b", 0)


def test_what_is_content_and_what_is_reasoning() -> None:
    turn = ids(
        "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>"
        "<|start|>assistant<|channel|>final<|message|>Done.<|return|>"
    )
    assert answer(turn, []) == ("Think.\n\n{}", "I look.\n\nDone.", None)
    text = AnswerText()
    text.feed(turn)
    assert text.reasoning_tokens == len(encode_text("Think."))


def test_stop_strings_leave_reasoning_alone() -> None:
    turn = ids("<|channel|>analysis<|message|>STOP here<|end|><|start|>assistant" + FINAL + "Go STOP no")
    assert answer(turn, ["STOP"]) == ("STOP here", "Go ", "STOP")


def test_a_possible_match_is_held_until_decided() -> None:
    text = AnswerText(["<end>"])
    text.feed(ids(FINAL))
    assert text.feed(byte_ids("a<en")) == [AnswerDelta("content", "a")]
    assert text.feed(byte_ids("x<")) == [AnswerDelta("content", "<enx")]
    assert text.finish() == [AnswerDelta("content", "<")]
    assert text.stopped is None


def test_nothing_comes_after_a_match() -> None:
    text = AnswerText(["b"])
    assert text.feed(ids(FINAL + "abc")) == [AnswerDelta("content", "a")]
    assert text.stopped == "b"
    assert text.feed(ids("abc")) == []
    assert text.finish() == []


def test_stop_strings_match_inside_one_message() -> None:
    two = FINAL + "one a" + NEXT_FINAL + "b two"
    assert answer(ids(two), ["ab", "\n\n"]) == ("", "one a\n\nb two", None)
    assert answer(ids(FINAL + "one" + NEXT_FINAL + "b two"), ["b"]) == ("", "one", "b")


def test_what_was_held_comes_before_later_reasoning() -> None:
    text = AnswerText(["ab"])
    turn = ids(FINAL + "x a<|end|><|start|>assistant<|channel|>analysis<|message|>Hm")
    *content, reasoning = text.feed(turn)
    assert "".join(delta.text for delta in content) == "x a"
    assert {delta.kind for delta in content} == {"content"}
    assert reasoning == AnswerDelta("reasoning", "Hm")


few_letters = st.text("abc", max_size=40)
stops = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4)


@given(few_letters, stops, cuts)
@settings(max_examples=500)
def test_stop_strings_equal_the_rule(text: str, stop: list[str], places: list[int]) -> None:
    assert answer([*ids(FINAL), *byte_ids(text)], stop, places)[1:] == expected(text, stop)


@given(st.lists(few_letters.filter(bool), min_size=1, max_size=4), stops, cuts)
@settings(max_examples=200)
def test_stop_strings_over_messages(messages: list[str], stop: list[str], places: list[int]) -> None:
    shown, stopped = [], None
    for message in messages:
        content, stopped = expected(message, stop)
        shown.append(content)
        if stopped is not None:
            break
    turn = ids(FINAL + NEXT_FINAL.join(messages))
    assert answer(turn, stop, places)[1:] == ("\n\n".join(filter(None, shown)), stopped)


@given(any_turn, st.lists(st.sampled_from(["a", "al", "to=", "\n", " a a", "é", "\ufffd"]), max_size=3), cuts)
@settings(max_examples=300)
def test_total_and_independent_of_chunks(turn: list[int], stop: list[str], places: list[int]) -> None:
    one_by_one = list(range(len(turn)))
    reasoning, content, stopped = answer(turn, stop)
    assert answer(turn, stop, places) == (reasoning, content, stopped)
    assert answer(turn, stop, one_by_one) == (reasoning, content, stopped)
    assert all(marker not in content + reasoning for marker in ("<|start|>", "<|channel|>", "<|reserved_"))


@given(any_turn)
def test_a_stop_string_that_never_matches_changes_nothing(turn: list[int]) -> None:
    assert answer(turn, ["never, ever: \U0010fffd"]) == answer(turn, [])
