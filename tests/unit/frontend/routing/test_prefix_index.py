from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.routing.prefix_index import MAX_POINTS, Match, PrefixIndex, prefix_points
from gpt_oss_triton.wire import Message, PromptRequest, Tool, ToolCall
from tests.unit.frontend.routing.fake_targets import conversation

LIFE = (1, 0.0)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6000), min_size=1, max_size=6)


def points(prompt: PromptRequest, salt: str = "") -> list[tuple[int, int]]:
    return prefix_points(prompt, salt, 1000)


def shared(a: PromptRequest, b: PromptRequest) -> int:
    """How many points two prompts have in common."""
    return len({hashed for hashed, _ in points(a)} & {hashed for hashed, _ in points(b)})


@given(TEXTS, st.integers(1, 10_000))
def test_points_grow_up_to_the_whole_prompt(texts: list[str], tokens: int) -> None:
    made = prefix_points(conversation(*texts), "", tokens)
    assert [at for _, at in made] == sorted(at for _, at in made)
    assert made[-1][1] == tokens
    assert len(made) <= MAX_POINTS


@given(TEXTS, st.text(st.characters(exclude_categories=["Cs"]), max_size=5000))
def test_a_turn_more_keeps_all_points(texts: list[str], more: str) -> None:
    before = conversation(*texts)
    assert shared(before, conversation(*texts, more)) >= min(len(points(before)), MAX_POINTS - 4)


def test_what_differs_ends_the_common_prefix() -> None:
    assert shared(conversation("a", "b", "c"), conversation("a", "b", "x")) == 2
    assert shared(conversation("a", "b"), conversation("ab")) == 0
    assert shared(conversation("a", "", "b"), conversation("a", "b")) == 1


def test_tools_stand_between_the_instructions_and_the_turns() -> None:
    plain = conversation("a", "b", system="Be brief.")
    tooled = msgspec.structs.replace(plain, tools=[Tool("weather")])
    assert shared(plain, tooled) == 1
    other = msgspec.structs.replace(plain, tools=[Tool("time")])
    assert shared(tooled, other) == 1


def test_a_call_is_part_of_its_turn() -> None:
    called, other = (
        PromptRequest([Message("user", "a"), Message("assistant", tool_calls=[ToolCall("f", arguments)])])
        for arguments in ("{}", '{"a": 1}')
    )
    assert shared(called, other) == len(points(called)) - 1


@pytest.mark.parametrize("field", ["text", "token_ids"])
def test_raw_prompts_share_their_beginnings(field: str) -> None:
    def raw(text: str) -> PromptRequest:
        value = text if field == "text" else list(text.encode())
        return PromptRequest(**{field: value})  # type: ignore[arg-type]

    assert shared(raw("a" * 9000 + "b"), raw("a" * 9000 + "c")) >= 4
    assert shared(raw("a" * 9000), raw("b" * 9000)) == 0


def test_instructions_come_first_wherever_they_stand() -> None:
    """As they are rendered: a late one changes the prompt from its beginning."""
    before = conversation("a", "b", system="Be brief.")
    late = PromptRequest([*before.messages, Message("developer", "No, be long.")])
    assert shared(before, late) == 1
    moved = PromptRequest([*before.messages[1:], before.messages[0]])
    assert points(moved) == points(before)


def test_effort_and_salt_keep_prefixes_apart() -> None:
    prompt = conversation("a")
    assert shared(prompt, PromptRequest(prompt.messages, "high")) == 0
    assert {hashed for hashed, _ in points(prompt)}.isdisjoint(
        hashed for hashed, _ in points(prompt, "somebody")
    )


def test_one_long_text_has_points_inside() -> None:
    """A question about the same document, and a timestamp behind long instructions."""
    document = "All work and no play. " * 500
    assert shared(conversation(document + "Why?"), conversation(document + "How?")) == len(document) // 2048
    monday, tuesday = (
        conversation("a", system=f"{document}Today is {day}.") for day in ("Monday", "Tuesday")
    )
    assert shared(monday, tuesday) == len(document) // 2048


def test_a_very_long_conversation_keeps_its_first_and_last_points() -> None:
    texts = [f"turn {n}" for n in range(500)]
    long, longer = conversation(*texts), conversation(*texts, "and", "more")
    assert len(points(long)) == MAX_POINTS
    assert points(long)[-1][0] in [hashed for hashed, _ in points(longer)]
    assert points(conversation("turn 0"))[0][0] in [hashed for hashed, _ in points(long)]


def test_the_longest_match_of_a_target_counts() -> None:
    index = PrefixIndex(100)
    index.add(points(conversation("a")), "one", LIFE)
    index.add(points(conversation("a", "b", "c")), "two", LIFE)
    wanted = points(conversation("a", "b", "c", "d"))
    assert index.find(wanted, "one", LIFE) == Match(wanted[0][1], 1)
    assert index.find(wanted, "two", LIFE) == Match(wanted[2][1], 1)
    assert index.find(wanted, "three", LIFE) == Match(0, 0)


def test_it_knows_how_many_prompts_have_begun_so() -> None:
    index = PrefixIndex(100)
    for number in range(5):
        index.add(points(conversation(f"question {number}", system="Be brief.")), "one", LIFE)
    assert index.find(points(conversation("new", system="Be brief.")), "one", LIFE).uses == 5
    assert index.find(points(conversation("question 1", "a", "b", system="Be brief.")), "one", LIFE).uses == 1


def test_a_restarted_engine_holds_nothing() -> None:
    index = PrefixIndex(100)
    wanted = points(conversation("a"))
    index.add(wanted, "one", LIFE)
    index.add(wanted, "one", LIFE)
    assert index.find(wanted, "one", (2, 0.0)) == Match(0, 0)
    index.add(wanted, "one", (2, 0.0))
    assert index.find(wanted, "one", (2, 0.0)) == Match(1000, 1)


@given(
    st.integers(1, 30), st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["one", "two"])), max_size=60)
)
def test_it_is_bounded_and_keeps_what_was_added_last(entries: int, added: list[tuple[int, str]]) -> None:
    index = PrefixIndex(entries)
    for number, target in added:
        request = points(conversation(f"conversation {number}", "answer", "question"))
        index.add(request, target, LIFE)
        assert len(index) <= entries
        assert index.find(request[:1], target, LIFE).tokens > 0


def test_the_point_that_most_share_outlives_the_others() -> None:
    index = PrefixIndex(3)
    for number in range(10):
        index.add(points(conversation(f"question {number}", system="Be brief.")), "one", LIFE)
    assert index.find(points(conversation("new", system="Be brief.")), "one", LIFE).uses == 10
