"""Conversations that are too long for the context, and what is left of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.chat_request import Chat
from frontend.responses.item_turns import Turns
from frontend.responses.request import read_response, turns_of
from frontend.responses.translation import chat_from
from frontend.responses.truncation import beginnings, fitted
from gpt_oss_triton.harmony.render import render

pytestmark = pytest.mark.anyio

LONG = "word " * 200


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"}


def result(number: int) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c{number}", "output": LONG}


async def left_of(
    *items: dict[str, Any], spare: int, drops: int = 0, instructions: str | None = None
) -> tuple[Chat, Turns]:
    """Where there is room for all but the first `drops` turns, and for `spare` tokens more."""
    body = {"model": "m", "input": items, "instructions": instructions}
    request = read_response(json.dumps(body).encode(), {})
    turns = turns_of(request)

    def chat_of(some: Turns) -> Chat:
        return chat_from(request, some, "medium")

    fitting = chat_of(Turns(turns.turns[drops:], turns.places[drops:]))
    room = len(render(fitting.prompt)) + 16 + spare  # 16 for a date that may come
    return await fitted(chat_of(turns), turns, room, chat_of)


async def test_what_fits_stays_whole() -> None:
    chat, turns = await left_of(user(LONG), answer(LONG), user("so?"), spare=0)
    assert len(chat.prompt.messages) == len(turns.turns) == 3


@pytest.mark.parametrize("drops", [1, 2, 3, 4])
async def test_no_more_goes_than_has_to(drops: int) -> None:
    items = [user(f"1 {LONG}"), answer(f"2 {LONG}"), user(f"3 {LONG}"), answer(f"4 {LONG}"), user("5")]
    for spare in (0, 100):
        chat, turns = await left_of(*items, drops=drops, spare=spare)
        assert [message.content[0] for message in chat.prompt.messages] == list("12345"[drops:])
        assert turns.places == [f"input[{index}]" for index in range(drops, 5)]


async def test_instructions_stay_wherever_they_stand() -> None:
    said = {"role": "developer", "content": "be kind"}
    chat, turns = await left_of(
        user(LONG), said, answer(LONG), user("so?"), drops=3, spare=50, instructions="be brief"
    )
    assert [message.content for message in chat.prompt.messages] == ["be brief", "be kind", "so?"]
    assert turns.places == ["input[1]", "input[3]"]


async def test_a_result_goes_with_its_call() -> None:
    items = [user(LONG), call(1), result(1), call(2), result(2)]
    chat, _ = await left_of(*items, drops=3, spare=0)
    assert [message.role for message in chat.prompt.messages] == ["assistant", "tool"]


async def test_the_last_turn_stays_even_if_it_is_too_long() -> None:
    chat, _ = await left_of(answer(LONG), user(LONG), drops=1, spare=-100)
    assert [message.role for message in chat.prompt.messages] == ["user"]


@pytest.mark.parametrize(
    ("items", "begins"),
    [
        ([user("a"), answer("b"), user("c")], [0, 1, 2]),
        ([user("a"), call(1), result(1), user("c")], [0, 1, 3]),
        ([user("a"), call(1), user("b"), result(1)], [0, 1]),
        ([{"role": "system", "content": "a"}, user("b")], [1]),
        ([{"role": "system", "content": "a"}], [0]),
    ],
)
def test_where_a_conversation_may_begin(items: list[dict[str, Any]], begins: list[int]) -> None:
    request = read_response(json.dumps({"model": "m", "input": items}).encode(), {})
    assert beginnings(turns_of(request).turns) == begins
