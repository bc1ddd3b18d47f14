from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.caller import Caller
from frontend.routing.sessions import Home, Sessions, Turn
from gpt_oss_triton.wire import Message, PromptRequest, ToolCall
from tests.unit.frontend.fake_triton import ENSEMBLE
from tests.unit.frontend.routing.fake_targets import CALLER, Clock, conversation

IDLE_S = 180.0
HOME = Home("one", (1, 0.0), 100)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(10, IDLE_S, clock)


def talk(
    sessions: Sessions, *texts: str, answer: str = "Hello!", system: str = "", caller: Caller = CALLER
) -> Turn:
    """One unnamed request that was let in, with its answer."""
    with sessions.turn(caller, ENSEMBLE, conversation(*texts, system=system)) as turn:
        sessions.settle(turn.session or "", HOME)
        turn.answered(answer)
    return turn


def named(sessions: Sessions, header: str, caller: Caller = CALLER, ensemble: str = ENSEMBLE) -> Turn:
    with sessions.turn(caller, ensemble, conversation("hi"), header=header) as turn:
        sessions.settle(turn.session or "", HOME)
        return turn


def test_a_header_names_it_and_outweighs_the_cache_key(sessions: Sessions) -> None:
    prompt = conversation("hi")
    by_header = sessions.turn(CALLER, ENSEMBLE, prompt, header="mine", prompt_cache_key="key")
    by_key = sessions.turn(CALLER, ENSEMBLE, prompt, prompt_cache_key="key")
    same_word = sessions.turn(CALLER, ENSEMBLE, prompt, prompt_cache_key="mine")
    assert (by_header.by, by_key.by) == ("header", "prompt_cache_key")
    assert len({by_header.session, by_key.session, same_word.session}) == 3
    assert named(sessions, "mine").session == by_header.session


def test_its_id_tells_nothing_and_is_of_one_length(sessions: Sessions) -> None:
    short, long = named(sessions, "alice@example.com").session, named(sessions, "x" * 60_000).session
    assert short is not None
    assert long is not None
    assert "alice" not in short
    assert len(short) == len(long) == 24


def test_callers_and_models_do_not_share_sessions(sessions: Sessions) -> None:
    other = Caller("somebody", "normal", salt="s")
    ids = {
        named(sessions, "1").session,
        named(sessions, "1", other).session,
        named(sessions, "1", ensemble="gpt-oss-120b").session,
    }
    assert len(ids) == 3


def test_the_second_turn_begins_an_unnamed_session(sessions: Sessions) -> None:
    first = talk(sessions, "hi")
    assert (first.session, first.by, first.lease) == (None, None, None)
    assert sessions.stats()["active"] == 0
    second = talk(sessions, "hi", "Hello!", "how are you?", answer="Fine.")
    assert second.by == "prefix"
    assert second.lease is not None
    assert (second.lease.id, second.lease.idle_s) == (second.session, IDLE_S)
    third = talk(sessions, "hi", "Hello!", "how are you?", "Fine.", "good")
    assert third.session == second.session
    assert sessions.stats() == {"active": 1, "created_total": 1, "returned_total": 1, "ended_total": {}}


def test_a_clients_small_changes_are_forgiven(sessions: Sessions) -> None:
    """White space around an answer, and a new time in the instructions."""
    for system in (
        "You are kind. It is {}.",
        "{} is the time. " + "Be kind. " * 1000,
        "Be kind. " * 1000 + "({})",
    ):
        talk(sessions, "hi", answer="Hello!\n", system=system.format("2025-01-02 10:11:12"))
        later = talk(sessions, "hi", "Hello!", "so?", system=system.format("2025-01-02 10:15:59"))
        assert later.by == "prefix", system


@pytest.mark.parametrize("texts", [("hi", "Something else", "so?"), ("ho", "Hello!", "so?"), ("hi",)])
def test_another_conversation_is_not_taken_for_it(sessions: Sessions, texts: tuple[str, ...]) -> None:
    talk(sessions, "hi")
    assert talk(sessions, *texts).session is None


def test_another_callers_conversation_is_not_taken_for_it(sessions: Sessions) -> None:
    talk(sessions, "hi")
    assert talk(sessions, "hi", "Hello!", "so?", caller=Caller("somebody", "normal")).session is None


def test_a_turn_that_is_asked_again_stays_in_its_session(sessions: Sessions) -> None:
    talk(sessions, "hi")
    once = talk(sessions, "hi", "Hello!", "joke?", answer="No.")
    again = talk(sessions, "hi", "Hello!", "joke?", answer="Well …")
    assert once.session == again.session


def test_an_idle_session_ends_with_the_sweep(sessions: Sessions, clock: Clock) -> None:
    named(sessions, "old")
    clock.now += IDLE_S / 2
    young = named(sessions, "young")
    clock.now += IDLE_S / 2 + 1
    sessions.sweep()
    assert sessions.stats() == {
        "active": 1,
        "created_total": 2,
        "returned_total": 0,
        "ended_total": {"idle": 1},
    }
    assert named(sessions, "young").session == young.session
    assert sessions.stats()["returned_total"] == 1


def test_who_comes_before_the_sweep_but_too_late_is_new(sessions: Sessions, clock: Clock) -> None:
    turn = named(sessions, "late")
    assert turn.session is not None
    clock.now += IDLE_S + 1
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header="late"):
        assert sessions.home(turn.session) is None, "its lease has ended, too"
    assert sessions.stats()["ended_total"] == {"idle": 1}


def test_an_unnamed_conversation_is_forgotten_after_the_same_time(sessions: Sessions, clock: Clock) -> None:
    talk(sessions, "hi")
    clock.now += IDLE_S + 1
    assert talk(sessions, "hi", "Hello!", "so?").session is None


def test_a_long_answer_is_not_idleness(sessions: Sessions, clock: Clock) -> None:
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header="busy") as turn:
        named(sessions, "idle")
        clock.now += IDLE_S + 1
        sessions.sweep()
        assert sessions.stats()["active"] == 1
        assert turn.session is not None
        sessions.settle(turn.session, HOME)
        assert sessions.oldest_idle(5, "one") == []
    clock.now += IDLE_S - 1
    sessions.sweep()
    assert sessions.oldest_idle(5, "one") == [turn.session], "its idle time begins with the answer's end"


def test_the_degradation_ladder_gets_the_oldest_of_one_target(sessions: Sessions) -> None:
    turns = [named(sessions, str(n)).session or "" for n in range(4)]
    sessions.settle(turns[1], Home("two", (1, 0.0), 100))
    named(sessions, "0")  # used again: now the youngest
    assert sessions.oldest_idle(2, "one") == [turns[2], turns[3]]
    assert sessions.oldest_idle(9, "one") == [turns[2], turns[3], turns[0]]
    sessions.end(sessions.oldest_idle(2, "one"), "pressure")
    assert sessions.stats()["ended_total"] == {"pressure": 2}
    assert sessions.home(turns[2]) is None


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=60))
def test_it_is_bounded_and_the_least_recently_used_goes_first(names: list[tuple[int, bool]]) -> None:
    sessions = Sessions(5, IDLE_S, Clock())
    with contextlib.ExitStack() as running:
        for name, stays in names:
            turn = running.enter_context(
                sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header=str(name))
            )
            sessions.settle(turn.session or "", HOME)
            assert sessions.home(turn.session or "") == HOME
            if not stays:
                running.close()
            stats = sessions.stats()
            assert stats["active"] <= 5
            assert stats["active"] == stats["created_total"] - sum(stats["ended_total"].values())
            talk(sessions, f"an unnamed conversation, {len(names)} {name}")
            assert len(sessions._expected) <= 5


@pytest.mark.anyio
async def test_the_sweep_runs_by_itself(sessions: Sessions, clock: Clock) -> None:
    named(sessions, "old")
    clock.now += IDLE_S + 1
    sweeper = asyncio.create_task(sessions.run(0.001))
    async with asyncio.timeout(10):
        while sessions.stats()["active"]:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.001)
    sweeper.cancel()


def test_who_is_refused_makes_no_session_and_ends_none(sessions: Sessions) -> None:
    kept = [named(sessions, str(n)).session for n in range(10)]
    for n in range(100):
        with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header=f"flood {n}"):
            pass
    assert sessions.stats() == {"active": 10, "created_total": 10, "returned_total": 0, "ended_total": {}}
    assert all(sessions.home(session or "") == HOME for session in kept)


CALL = ToolCall("weather", '{"city":"Paris"}')


@pytest.mark.parametrize("arguments", ['{"city":"Paris"}', '{"city": "Paris"}\n', '{"city": "\\u0050aris"}'])
def test_a_turn_after_a_call_is_recognised(sessions: Sessions, arguments: str) -> None:
    """However the client wrote the arguments."""
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi")) as turn:
        turn.answered("Let me see.", [CALL])
    back = Message("assistant", "Let me see.", tool_calls=[ToolCall("weather", arguments)])
    result = Message("tool", "18 °C", name="weather")
    later = PromptRequest([*conversation("hi").messages, back, result])
    assert sessions.turn(CALLER, ENSEMBLE, later).by == "prefix"


@pytest.mark.parametrize(
    "calls", [[], [ToolCall("time", '{"city":"Paris"}')], [ToolCall("weather", "{}")], [CALL, CALL]]
)
def test_a_turn_with_other_calls_is_not_taken_for_it(sessions: Sessions, calls: list[ToolCall]) -> None:
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi")) as turn:
        turn.answered("", [CALL])
    back = Message("assistant", tool_calls=calls)
    later = PromptRequest([*conversation("hi").messages, back, Message("user", "so?")])
    assert sessions.turn(CALLER, ENSEMBLE, later).by is None


def test_arguments_that_are_no_json_count_as_they_stand(sessions: Sessions) -> None:
    broken = ToolCall("weather", " {city: ")
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi")) as turn:
        turn.answered("", [broken])
    later = PromptRequest([*conversation("hi").messages, Message("assistant", tool_calls=[broken])])
    assert sessions.turn(CALLER, ENSEMBLE, later).by == "prefix"
