"""What every engine keeps to, as checks that need nothing but an engine: they also run where there is no pytest.

Each check takes an engine made with `SETTINGS` and leaves it idle, but for the last, which closes it.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gpt_oss_triton.engine.capabilities import OPTIONS
from gpt_oss_triton.engine.protocol import (
    Engine,
    EngineEvent,
    EngineRequest,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.errors import (
    ContextLengthExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    Overloaded,
    ServiceError,
    UnsupportedParameter,
)
from gpt_oss_triton.wire import GenerationOptions, Lease

SETTINGS: dict[str, Any] = {"max_context": 1024, "max_sequences": 2, "max_waiting": 2}
LONG = 900  # tokens: more than are produced before a check is over with them
DEADLINE_S = 60.0
_ids = itertools.count()

Check = Callable[[Engine], None]
Kind = TypeVar("Kind")
CHECKS: list[Check] = []


class Call:
    """One submitted request: its events as they come."""

    def __init__(
        self,
        engine: Engine,
        prompt: Iterable[int],
        *,
        stop_text: Callable[[int], str | None] | None = None,
        **options: Any,
    ) -> None:
        self.id = f"call-{next(_ids)}"
        self.events: queue.Queue[EngineEvent] = queue.Queue()
        self.seen: list[EngineEvent] = []
        given = {"temperature": 0, "max_tokens": 8, "ignore_eos": True, **options}
        request = EngineRequest(self.id, list(prompt), GenerationOptions(**given), stop_text)
        engine.submit(request, self.events.put)

    def until(self, kind: type[Kind] | tuple[type[Kind], ...]) -> Kind:
        while True:
            event = self.events.get(timeout=DEADLINE_S)
            self.seen.append(event)
            if isinstance(event, kind):
                return event

    def end(self) -> Any:
        """The terminal event."""
        return self.until((SequenceFinished, SequenceFailed))

    @property
    def tokens(self) -> list[int]:
        return [t for event in self.seen if isinstance(event, NewTokens) for t in event.token_ids]


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def refused(error: type[ServiceError], param: str | None, function: Callable[[], object]) -> ServiceError:
    try:
        function()
    except error as raised:
        caught = raised
    else:
        raise AssertionError(f"no {error.__name__}")
    assert caught.param == param, caught.param
    return caught


def wait_idle(engine: Engine) -> None:
    """Engines free blocks within a step of the end, and tell of it when they next report."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        load = engine.load()
        if (load.running, load.waiting, load.blocks_used) == (0, 0, 0):
            return
        assert time.monotonic() < deadline, load
        time.sleep(0.01)


def end_all(engine: Engine, calls: list[Call]) -> None:
    for call in calls:
        engine.cancel(call.id)
        call.end()
    wait_idle(engine)


@check
def events_come_in_order_and_end_once(engine: Engine) -> None:
    call = Call(engine, [1, 2, 3])
    end = call.end()
    assert isinstance(call.seen[0], PromptAccepted)
    assert isinstance(end, SequenceFinished)
    assert all(isinstance(event, NewTokens) for event in call.seen[1:-1])
    assert (end.finish_reason, end.stop) == ("length", None)
    assert (end.prompt_tokens, end.completion_tokens, len(call.tokens)) == (3, 8, 8)
    assert call.seen[0].prompt_tokens == 3
    timings = end.timings
    assert timings.scheduled is not None
    assert timings.first_token is not None
    assert timings.arrived <= timings.scheduled <= timings.first_token <= timings.finished
    wait_idle(engine)
    assert call.events.empty()


@check
def the_same_request_has_the_same_answer(engine: Engine) -> None:
    for options in ({}, {"temperature": 1.0, "seed": 2**63 + 7}):
        calls = [Call(engine, [5, 6, 7], **options) for _ in range(2)]
        for call in calls:
            assert call.end().finish_reason == "length"
        assert calls[0].tokens == calls[1].tokens


@check
def a_stop_id_ends_with_that_token_delivered(engine: Engine) -> None:
    free = Call(engine, [5, 6])
    free.end()
    stop = free.tokens[2]
    call = Call(engine, [5, 6], stop_token_ids=[stop])
    end = call.end()
    assert call.tokens == free.tokens[: free.tokens.index(stop) + 1]
    assert (end.finish_reason, end.stop, end.completion_tokens) == ("stop", stop, len(call.tokens))


@check
def a_stop_text_watches_every_token_and_ends(engine: Engine) -> None:
    watched: list[int] = []

    def stop(token: int) -> str | None:
        watched.append(token)
        return "END" if len(watched) == 3 else None

    call = Call(engine, [5, 6], stop=["END"], stop_text=stop, max_tokens=LONG)
    end = call.end()
    assert watched == call.tokens
    assert (end.finish_reason, end.stop, end.completion_tokens) == ("stop", "END", 3)
    wait_idle(engine)


@check
def a_stop_text_that_raises_fails_its_request_alone(engine: Engine) -> None:
    def broken(token: int) -> str | None:
        raise RuntimeError("secret")

    other = Call(engine, [1], max_tokens=40)
    failed = Call(engine, [2], stop=["x"], stop_text=broken).end()
    assert isinstance(failed, SequenceFailed)
    assert isinstance(failed.error, InternalError)
    assert "secret" not in failed.error.message
    assert other.end().finish_reason == "length"
    wait_idle(engine)


@check
def cancel_frees_what_runs(engine: Engine) -> None:
    call = Call(engine, [1, 2], max_tokens=LONG)
    call.until(NewTokens)
    assert engine.cancel(call.id)
    end = call.end()
    assert (end.finish_reason, end.stop) == ("cancelled", None)
    assert end.completion_tokens == len(call.tokens) > 0
    wait_idle(engine)
    assert not engine.cancel(call.id)
    assert not engine.cancel("never-was")


@check
def cancel_ends_what_waits(engine: Engine) -> None:
    running = [Call(engine, [n], max_tokens=LONG) for n in range(SETTINGS["max_sequences"])]
    for call in running:
        call.until(NewTokens)
    waiting = Call(engine, [9], max_tokens=LONG)
    assert engine.cancel(waiting.id)
    end = waiting.end()
    assert (end.finish_reason, end.completion_tokens, end.blocks) == ("cancelled", 0, 0)
    assert end.timings.scheduled is None
    end_all(engine, running)


@check
def a_cancel_from_the_first_event_ends_it_once(engine: Engine) -> None:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(event: EngineEvent) -> None:
        events.put(event)
        if isinstance(event, PromptAccepted):
            assert engine.cancel("early")

    engine.submit(EngineRequest("early", [1, 2], GenerationOptions(max_tokens=LONG)), deliver)
    assert isinstance(events.get(timeout=DEADLINE_S), PromptAccepted)
    end = events.get(timeout=DEADLINE_S)
    assert isinstance(end, SequenceFinished), end
    assert end.finish_reason == "cancelled"
    wait_idle(engine)
    assert events.empty()


@check
def what_can_never_run_is_refused_at_once(engine: Engine) -> None:
    cases: list[tuple[list[int], dict[str, Any], type[ServiceError], str]] = [
        ([], {}, InvalidRequest, "prompt_token_ids"),
        ([-1], {}, InvalidRequest, "prompt_token_ids"),
        ([201_088], {}, InvalidRequest, "prompt_token_ids"),
        ([1] * 1024, {"max_tokens": None}, ContextLengthExceeded, "messages"),
        ([1] * 1000, {"max_tokens": 25}, ContextLengthExceeded, "max_tokens"),
        ([1], {"max_tokens": 0}, InvalidRequest, "max_tokens"),
        ([1], {"temperature": float("nan")}, InvalidRequest, "temperature"),
        ([1], {"seed": 2**64}, InvalidRequest, "seed"),
        ([1], {"logit_bias": {300_000: 1.0}}, InvalidRequest, "logit_bias"),
        ([1], {"stop_token_ids": [300_000]}, InvalidRequest, "stop_token_ids"),
        ([1], {"stop": ["x"]}, InvalidRequest, "stop"),
        ([1], {"cache_salt": "s" * 129}, InvalidRequest, "cache_salt"),
    ]
    for prompt, options, error, param in cases:
        refused(error, param, lambda p=prompt, o=options: Call(engine, p, **o))  # type: ignore[misc]
    wait_idle(engine)


@check
def what_nobody_asked_for_is_no_reason_to_refuse(engine: Engine) -> None:
    """Prompt and `most_tokens` are more than the context holds."""
    ends = [
        Call(engine, [1] * 1020, max_tokens=None, most_tokens=500).end(),
        Call(engine, [1], max_tokens=None, most_tokens=3).end(),
        Call(engine, [1], max_tokens=2, most_tokens=3).end(),
    ]
    assert [end.completion_tokens for end in ends] == [4, 3, 2]
    refused(InvalidRequest, "most_tokens", lambda: Call(engine, [1], most_tokens=0))


@check
def what_the_engine_lacks_is_refused_by_name(engine: Engine) -> None:
    asking: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "min_p": 0.1,
        "seed": 1,
        "frequency_penalty": 1.0,
        "presence_penalty": 1.0,
        "repetition_penalty": 1.5,
        "logit_bias": {1: 1.0},
        "logprobs": 2,
        "grammar": 'start: "a"',
        "lease": Lease("s", 60),
        "cache_salt": "t",
    }
    assert asking.keys() == {name for names in OPTIONS.values() for name in names}
    for capability, names in OPTIONS.items():
        for name in names:
            if getattr(engine.capabilities, capability) == "no":
                refused(UnsupportedParameter, name, lambda n=name: Call(engine, [1], **{n: asking[n]}))  # type: ignore[misc]
            elif name != "grammar":  # which says what the answer is, and has tests of its own
                end = Call(engine, [1], **{name: asking[name]}).end()
                assert isinstance(end, SequenceFinished), (name, end)
    wait_idle(engine)


@check
def an_id_is_refused_while_it_is_live(engine: Engine) -> None:
    call = Call(engine, [1], max_tokens=LONG)
    again = EngineRequest(call.id, [1], GenerationOptions(max_tokens=1))
    refused(InvalidRequest, "request_id", lambda: engine.submit(again, call.events.put))
    end_all(engine, [call])
    engine.submit(again, call.events.put)
    assert call.end().finish_reason in ("length", "stop")


@check
def the_queue_is_bounded(engine: Engine) -> None:
    most = SETTINGS["max_sequences"] + SETTINGS["max_waiting"]
    calls = [Call(engine, [n], max_tokens=LONG) for n in range(most)]
    full = refused(Overloaded, None, lambda: Call(engine, [9]))
    assert full.retry_after_s
    load = engine.load()
    assert load.running + load.waiting == most
    end_all(engine, calls)


@check
def neighbours_do_not_change_an_answer(engine: Engine) -> None:
    prompts = [[n, n + 1, n + 2] for n in range(10, 50, 10)]
    together = [Call(engine, prompt) for prompt in prompts]
    for call in together:
        assert call.end().finish_reason == "length"
    assert [len(call.tokens) for call in together] == [8] * len(prompts)
    wait_idle(engine)


@check
def the_load_counts(engine: Engine) -> None:
    before = engine.load(3)
    assert before.sequence == 3
    assert before.engine == engine.capabilities.engine
    limits = (before.max_context, before.max_sequences, before.max_waiting)
    assert limits == (SETTINGS["max_context"], SETTINGS["max_sequences"], SETTINGS["max_waiting"])
    call = Call(engine, [1, 2, 3], max_tokens=LONG)
    call.until(NewTokens)
    load = engine.load()
    assert (load.running + load.waiting, load.max_sequences) == (1, SETTINGS["max_sequences"])
    end_all(engine, [call])
    after = engine.load()
    assert after.steps > before.steps
    assert after.prompt_tokens == before.prompt_tokens + 3
    assert after.output_tokens >= before.output_tokens + len(call.tokens)
    assert (after.pid, after.started) == (before.pid, before.started)
    assert after.blocks_total > 0


@check
def close_ends_what_runs_and_refuses_the_rest(engine: Engine) -> None:
    call = Call(engine, [1], max_tokens=LONG)
    call.until(NewTokens)
    engine.close()
    assert call.end().finish_reason == "cancelled"
    refused(EngineUnavailable, None, lambda: Call(engine, [1]))
    assert not engine.cancel(call.id)
    engine.close()
