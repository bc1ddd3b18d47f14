"""`truncation: auto`: a conversation that does not fit the model's context goes on without its oldest turns."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence

from frontend.chat_messages import AssistantTurn, DeveloperTurn, FunctionCall, SystemTurn, ToolTurn, Turn
from frontend.chat_request import Chat
from frontend.responses.item_turns import Turns
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import PromptRequest, encode

_DATE_TOKENS = 16  # of a date that the normalizer may be told to put in
_INSTRUCTIONS = (SystemTurn, DeveloperTurn)


async def fitted(
    chat: Chat, turns: Turns, room: int, make_chat: Callable[[Turns], Chat]
) -> tuple[Chat, Turns]:
    """The chat, and the turns that it is made of, without as many of the oldest as are too many.

    Instructions stay, and so does the last turn with the calls that it answers: where these alone do not fit, the
    engine says so.

    Args:
        room: tokens that the prompt may have.
        make_chat: makes a chat of other turns.
    """
    if len(encode(chat.prompt)) <= room // 2:  # hardly a token has less than a byte
        return chat, turns
    return await asyncio.to_thread(_fitted, chat, turns, room - _DATE_TOKENS, make_chat)


def _fitted(chat: Chat, turns: Turns, room: int, make_chat: Callable[[Turns], Chat]) -> tuple[Chat, Turns]:
    if _fits(chat.prompt, room):
        return chat, turns
    begins = beginnings(turns.turns)
    first = bisect_left(begins, True, key=lambda begin: _fits(make_chat(_since(turns, begin)).prompt, room))
    left = _since(turns, begins[min(first, len(begins) - 1)])
    return make_chat(left), left


def _fits(prompt: PromptRequest, room: int) -> bool:
    return len(render(prompt)) <= room


def beginnings(turns: Sequence[Turn]) -> list[int]:
    """Where a conversation may begin: wherever every tool's result that follows has its call."""
    found: list[int] = []
    answered: set[str] = set()  # calls whose results follow
    for index, turn in reversed([*enumerate(turns)]):
        if isinstance(turn, ToolTurn):
            answered.add(turn.tool_call_id)
        elif isinstance(turn, AssistantTurn):
            answered -= {call.id for call in turn.tool_calls or () if isinstance(call, FunctionCall)}
        if not answered and type(turn) not in _INSTRUCTIONS:
            found.append(index)
    return found[::-1] or [0]


def _since(turns: Turns, begin: int) -> Turns:
    kept = [
        (turn, place)
        for index, (turn, place) in enumerate(zip(turns.turns, turns.places, strict=True))
        if index >= begin or type(turn) in _INSTRUCTIONS
    ]
    return Turns([turn for turn, _ in kept], [place for _, place in kept])
