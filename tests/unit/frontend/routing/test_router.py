from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.routing.router import Choice
from frontend.routing.sessions import Sessions
from gpt_oss_triton.errors import EngineUnavailable, InternalError
from tests.unit.frontend.routing.fake_targets import (
    CALLER,
    ENSEMBLE,
    Clock,
    FakeTarget,
    ask,
    conversation,
    place,
    router,
)

DOCUMENT = "All work and no play makes Jack a dull boy. " * 200


@pytest.fixture
def one() -> FakeTarget:
    return FakeTarget("one")


@pytest.fixture
def two() -> FakeTarget:
    return FakeTarget("two")


def other(choice: Choice, *targets: FakeTarget) -> FakeTarget:
    (left,) = (target for target in targets if target is not choice.target)
    return left


def test_a_single_target_gets_everything(one: FakeTarget) -> None:
    made = router(one)
    assert place(made, ask()) == Choice(one, "only")
    assert place(made, ask(tokens=50_000)) == Choice(one, "only")


def test_only_targets_of_the_ensemble_are_asked(one: FakeTarget) -> None:
    made = router(one, FakeTarget("big", ensemble="gpt-oss-120b"))
    assert {place(made, ask(conversation(str(n)))).target for n in range(10)} == {one}
    assert place(made, ask(ensemble="gpt-oss-120b")).target.name == "big"


# ------------------------------------------------------------------------------------------- health


def test_a_target_with_a_problem_gets_nothing(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    one.watch.problem, one.watch.load = "it is down", None
    assert {place(made, ask(conversation(str(n)))).target for n in range(10)} == {two}


def test_without_a_target_it_is_said_at_once_and_why(one: FakeTarget, two: FakeTarget) -> None:
    for target in (one, two):
        target.watch.problem, target.watch.load = f"{target.name} hangs", None
    with pytest.raises(EngineUnavailable, match=r"one: one hangs; two: two hangs") as caught:
        router(one, two).choose(ask())
    assert caught.value.retry_after_s
    with pytest.raises(EngineUnavailable):
        router(one).choose(ask(ensemble="gpt-oss-120b"))


def test_silent_targets_are_used_only_where_there_are_no_others(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    one.watch.problem = "silent for 2 s"
    assert {place(made, ask(conversation(str(n)))).target for n in range(10)} == {two}
    two.watch.problem = "silent for 2 s"
    assert {place(made, ask(conversation(str(n)))).target for n in range(20)} == {one, two}
    two.watch.load = None
    assert place(made, ask()).target is one


def test_an_open_breaker_is_a_problem_and_one_try_closes_it(two: FakeTarget) -> None:
    clock = Clock()
    one = FakeTarget("one", clock=clock)
    made = router(one, two, routing_policy="round_robin")
    for _ in range(3):
        one.breaker.record(InternalError("broken"))
    assert one.problem is not None
    assert {place(made, ask()).target for _ in range(5)} == {two}
    clock.now += 10
    tried = [place(made, ask()).target for _ in range(5)]
    assert tried.count(one) == 1
    one.breaker.record(None)
    assert {place(made, ask()).target for _ in range(2)} == {one, two}


def test_full_targets_are_waited_for(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    one.capacity.full = True
    assert place(made, ask()).target is two
    two.capacity.full = True
    assert made.choose(ask()) is None


def test_a_retry_goes_elsewhere_and_is_called_so(one: FakeTarget, two: FakeTarget) -> None:
    made, request = router(one, two), ask()
    first = place(made, request)
    request.excluded.add(first.target.name)
    assert place(made, request) == Choice(other(first, one, two), "retry")
    request.excluded.add(other(first, one, two).name)
    with pytest.raises(EngineUnavailable):
        made.choose(request)


# ----------------------------------------------------------------------------------------- affinity


def test_the_next_turn_goes_where_the_prefix_is(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    for n in range(20):
        first = place(made, ask(conversation(f"{n} {DOCUMENT}", "yes")))
        assert first.reason == "least_loaded"
        for target in (one, two):
            target.report()
        follow_up = place(made, ask(conversation(f"{n} {DOCUMENT}", "yes", "and?"), 1100))
        assert follow_up == Choice(first.target, "affinity")


def test_a_document_that_few_have_asked_about_draws_its_questions(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    first = place(made, ask(conversation(f"{DOCUMENT} Why?")))
    assert place(made, ask(conversation(f"{DOCUMENT} How?"))) == Choice(first.target, "affinity")


def test_what_all_have_in_common_is_computed_everywhere(one: FakeTarget, two: FakeTarget) -> None:
    """Else all conversations would crowd on one target, and push each other out of its cache."""
    made = router(one, two)
    choices = []
    for n in range(40):
        choices.append(place(made, ask(conversation(f"question {n}", system=DOCUMENT))))
        for target in (one, two):
            target.report()
    assert [choice.reason for choice in choices].count("affinity") < 10
    assert 10 <= sum(choice.target is one for choice in choices) <= 30


def test_the_next_turn_of_a_conversation_with_common_instructions(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    homes = [place(made, ask(conversation(f"question {n}", system=DOCUMENT))).target for n in range(20)]
    assert set(homes) == {one, two}
    for target in (one, two):
        target.report()
    for n, home in enumerate(homes):
        long_turn = conversation(f"question {n}", "answer " * 1000, "and?", system=DOCUMENT)
        assert place(made, ask(long_turn, 3000)) == Choice(home, "affinity")
        home.report()  # type: ignore[attr-defined]


def test_a_session_stays_at_home_where_no_prefix_is_known(one: FakeTarget, two: FakeTarget) -> None:
    sessions = Sessions(100, 180.0)
    made = router(one, two, sessions=sessions)
    homes = {}
    for n in range(20):
        with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header=str(n)) as turn:
            homes[turn.session] = place(
                made, ask(conversation(f"It is {n} o'clock"), session=turn.session)
            ).target
    assert set(homes.values()) == {one, two}
    for session, home in homes.items():
        home.capacity.in_flight = 20  # type: ignore[misc]
        again = place(made, ask(conversation("It is later"), session=session))
        assert again == Choice(home, "session")
        home.capacity.in_flight = 0  # type: ignore[misc]


@pytest.mark.parametrize("where", ["session", "prefix"])
def test_a_hot_spot_is_left(one: FakeTarget, two: FakeTarget, where: str) -> None:
    sessions = Sessions(100, 180.0)
    made = router(one, two, sessions=sessions)
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header="s") as turn:
        session = turn.session if where == "session" else None
        home = place(made, ask(conversation(DOCUMENT), session=session)).target
        for heat in ({"in_flight": 60}, {"kv_fraction": 0.9}, {"full": True}):
            cold = dict(vars(home.capacity))
            vars(home.capacity).update(heat)
            hot = made.choose(ask(conversation(DOCUMENT), session=session))
            assert hot is not None
            assert (hot.target is home, hot.reason) == (False, "hot_spot"), heat
            vars(home.capacity).update(cold)
        home.report(prefill_tokens_left=20_000)  # type: ignore[attr-defined]
        hot = made.choose(ask(conversation(DOCUMENT), session=session))
        assert hot is not None
        assert hot.reason == "hot_spot"


def test_requests_between_two_reports_do_not_all_follow_the_same_one(
    one: FakeTarget, two: FakeTarget
) -> None:
    made = router(one, two)
    one.report(prefill_tokens_left=10)
    chosen = Counter(place(made, ask(conversation(f"{n} {DOCUMENT}"))).target.name for n in range(20))
    assert chosen == {"one": 10, "two": 10}


def test_a_target_that_had_slow_prompts_is_not_kept_from_new_ones(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    one.report(prefill_tokens_per_s=500.0)
    chosen = Counter()
    for n in range(20):
        chosen[place(made, ask(conversation(f"{n} {DOCUMENT}"))).target.name] += 1
        for target in (one, two):
            target.report()
    assert min(chosen["one"], chosen["two"]) >= 5


def test_a_restarted_engine_has_no_prefixes_and_is_nobodys_home(one: FakeTarget, two: FakeTarget) -> None:
    sessions = Sessions(100, 180.0)
    made = router(one, two, sessions=sessions)
    with sessions.turn(CALLER, ENSEMBLE, conversation("hi"), header="s") as turn:
        home = place(made, ask(conversation(DOCUMENT), session=turn.session)).target
        home.report(pid=99)  # type: ignore[attr-defined]
        choice = made.choose(ask(conversation(DOCUMENT), session=turn.session))
        assert choice is not None
        assert choice.reason == "least_loaded"


def test_callers_do_not_follow_each_others_prefixes(one: FakeTarget, two: FakeTarget) -> None:
    made = router(one, two)
    place(made, ask(conversation(DOCUMENT)))
    stranger = made.choose(ask(conversation(DOCUMENT), caller=type(CALLER)("somebody", "normal", salt="x")))
    assert stranger is not None
    assert stranger.reason == "least_loaded"


@given(st.integers(2, 5), st.integers(0, 4), st.booleans())
def test_when_a_target_dies_only_its_keys_are_remapped(number: int, dead: int, known: bool) -> None:
    """Conversations that have an affinity, and ones that only have a hash (as after a restart of the shim)."""
    targets = [FakeTarget(f"target-{n}") for n in range(number)]
    made = router(*targets)
    requests = [ask(conversation(f"conversation {n}")) for n in range(40)]

    def all_choices() -> dict[int, FakeTarget]:
        choices = {}
        for n, request in enumerate(requests):
            choice = made.choose(request)
            assert choice is not None
            if known:
                made.placed(request, choice)
                choice.target.report()  # type: ignore[attr-defined]
            choices[n] = choice.target
        return choices  # type: ignore[return-value]

    before = all_choices()
    lost = targets[dead % number]
    lost.watch.load, lost.watch.problem = None, "it is down"
    after = all_choices()
    assert lost not in after.values()
    assert {n for n in after if after[n] is not before[n]} == {n for n in before if before[n] is lost}
    assert len(set(before.values())) > 1, "new conversations are spread"


# ----------------------------------------------------------------------------------- large requests


@pytest.fixture
def big() -> FakeTarget:
    return FakeTarget("big", gpus=4)


@pytest.mark.parametrize(
    ("tokens", "settings", "trigger"),
    [
        (8001, {}, "large_prompt"),
        (125_000, {"large_prompt_tokens": 200_000}, "large_kv"),
        (1000, {"large_kv_mb": 50}, "large_kv"),
    ],
)
def test_large_requests_go_to_several_gpus(
    one: FakeTarget, big: FakeTarget, tokens: int, settings: dict[str, Any], trigger: str
) -> None:
    made = router(one, big, **settings)
    big.capacity.in_flight = 30  # busier than the other
    assert place(made, ask(tokens=tokens)) == Choice(big, trigger)
    big.capacity.full = True
    assert made.choose(ask(tokens=tokens)) is None, "it waits: elsewhere it would be in everybody's way"
    big.watch.load, big.watch.problem = None, "it is down"
    assert place(made, ask(tokens=tokens)).target is one
    assert made.stats()["route4_triggers"] == {
        "large_prompt": 0,
        "large_kv": 0,
        "memory_pressure": 0,
        trigger: 1,
    }


def test_at_the_thresholds_they_are_not_yet_large(one: FakeTarget, big: FakeTarget) -> None:
    big.capacity.in_flight = 30
    assert place(router(one, big), ask(tokens=8000)).target is one


def test_memory_pressure_moves_a_request_to_where_there_is_more_room(
    one: FakeTarget, big: FakeTarget
) -> None:
    made = router(one, big)
    one.capacity.kv_fraction, big.capacity.kv_fraction = 0.85, 0.84
    big.capacity.in_flight = 30
    assert made.choose(ask()) == Choice(big, "memory_pressure")
    big.capacity.kv_fraction = 0.86
    assert place(made, ask()).target is one, "there is less room"
    big.capacity.kv_fraction, big.capacity.full = 0.1, True
    assert place(made, ask()).target is one
    one.capacity.kv_fraction = 0.8
    big.capacity.full = False
    assert place(made, ask()).target is one, "not above the threshold"
    assert made.stats()["route4_triggers"]["memory_pressure"] == 0


def test_small_requests_may_use_several_gpus_as_well(one: FakeTarget, big: FakeTarget) -> None:
    made = router(one, big)
    one.capacity.in_flight = 30
    assert place(made, ask()) == Choice(big, "least_loaded")


# ------------------------------------------------------------------------------------ round robin, stats


def test_round_robin_takes_turns_among_those_with_room(one: FakeTarget, two: FakeTarget) -> None:
    three = FakeTarget("three")
    made = router(one, two, three, routing_policy="round_robin")
    prompt = conversation(DOCUMENT)
    names = [place(made, ask(prompt)).target.name for _ in range(4)]
    assert names == ["one", "two", "three", "one"]
    two.capacity.full = True
    assert [place(made, ask(prompt)).target.name for _ in range(2)] == ["three", "one"]
    assert made.choose(ask(prompt)) == made.choose(ask(prompt)), "only what is placed counts as a turn"


def test_stats(one: FakeTarget, big: FakeTarget) -> None:
    made = router(one, big)
    assert made.stats() == {
        "policy": "affinity",
        "decisions": {"one": {}, "big": {}},
        "route4_gpu_requests": 0,
        "route4_percentage": 0.0,
        "route4_triggers": {"large_prompt": 0, "large_kv": 0, "memory_pressure": 0},
        "gpu_balance": {"one": 0.0, "big": 0.0},
        "prefix_entries": 0,
    }
    big.capacity.in_flight = 30
    place(made, ask(conversation("a")))
    place(made, ask(conversation("b")))
    place(made, ask(conversation("c"), tokens=9000))
    one.capacity.full = True
    place(made, ask(conversation("d")))
    assert made.stats() == {
        "policy": "affinity",
        "decisions": {"one": {"least_loaded": 2}, "big": {"large_prompt": 1, "least_loaded": 1}},
        "route4_gpu_requests": 2,
        "route4_percentage": 50.0,
        "route4_triggers": {"large_prompt": 1, "large_kv": 0, "memory_pressure": 0},
        "gpu_balance": {"one": 0.5, "big": 0.5},
        "prefix_entries": 4,
    }
