from __future__ import annotations

from typing import Any

import pytest

from gpt_oss_triton import wire
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.errors import EngineUnavailable, InternalError
from gpt_oss_triton.harmony.tokens import CHANNEL, END, MESSAGE, RETURN, START, encode_text
from gpt_oss_triton.triton_backend.answer_stream import AnswerStream
from gpt_oss_triton.triton_backend.generation_request import GenerationRequest
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.wire import Accepted, Finished, GenerationOptions, PromptInfo, Timings

PROMPT = [1, 2, 3]
INFO = PromptInfo("ab", "cd", "v1")
TIMINGS = Timings(arrived=1.0, finished=2.0)
ANALYSIS = [CHANNEL, *encode_text("analysis"), MESSAGE, *encode_text("It is a greeting."), END]
FINAL = [
    START,
    *encode_text("assistant"),
    CHANNEL,
    *encode_text("final"),
    MESSAGE,
    *encode_text("Grüß dich, Welt!"),
]
ANSWER = [*ANALYSIS, *FINAL, RETURN]
TEXT = "Grüß dich, Welt!"


def finished(tokens: int = len(ANSWER), reason: wire.FinishReason = "stop") -> SequenceFinished:
    return SequenceFinished(reason, len(PROMPT), tokens, 0, RETURN, 0, 5, TIMINGS)


class Case:
    """A stream whose owner is this test: `ready` and `ended` count the callbacks."""

    def __init__(
        self, request: Any, *, streamed: bool = True, return_text: bool = True, stop: Any = ()
    ) -> None:
        self.sender = request.sender
        self.ready = 0
        self.ended = 0
        generation = GenerationRequest(
            PROMPT, INFO, GenerationOptions(stop=list(stop)), streamed, return_text
        )
        self.stream = AnswerStream(
            "r", generation, Responder(request), on_ready=self._count_ready, on_end=self._count_end
        )

    def _count_ready(self, stream: AnswerStream) -> None:
        self.ready += 1

    def _count_end(self, stream: AnswerStream) -> None:
        assert not self.sender.finals, "the id is still taken when the client has its answer"
        self.ended += 1

    def put(self, *events: EngineEvent) -> None:
        for event in events:
            self.stream.put(event)

    def answer(self) -> tuple[list[Any], list[int], str]:
        """Events, tokens and text of all responses, in order."""
        events, tokens, text = [], [], ""
        for response in self.sender.sent:
            assert response.error is None
            outputs = response.tensors
            assert set(outputs) == {spec.name for spec in wire.ENGINE_OUTPUTS}
            if outputs["event"][0]:
                events.append(wire.decode(outputs["event"][0], wire.Event))
            tokens += outputs["token_ids"].tolist()
            text += outputs["text_output"][0].decode()
            assert outputs["num_output_tokens"].tolist() == [len(tokens)]
            assert outputs["num_input_tokens"].tolist() == [len(PROMPT)]
        return events, tokens, text


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_streamed_tokens_and_text_are_whole_under_any_coalescing(triton_request: Any, chunk: int) -> None:
    case = Case(triton_request())
    case.put(PromptAccepted(3, 0))
    for start in range(0, len(ANSWER), chunk):
        case.put(*(NewTokens([token]) for token in ANSWER[start : start + chunk]))
        case.stream.flush()
    case.put(finished())
    case.stream.flush()
    events, tokens, text = case.answer()
    assert [type(event) for event in events] == [Accepted, Finished]
    assert events[0] == Accepted(3, 0, INFO)
    assert events[1].prompt is None
    assert events[1].blocks == 5
    assert case.stream.timings == TIMINGS
    assert tokens == ANSWER
    assert text == TEXT
    assert (case.sender.finals, case.ended) == (1, 1)


def test_all_that_waits_goes_in_one_response(triton_request: Any) -> None:
    case = Case(triton_request())
    case.put(PromptAccepted(3, 0), *(NewTokens([token]) for token in ANSWER), finished())
    assert case.ready == 1  # announced once, however much came
    case.stream.flush()
    assert len(case.sender.sent) == 2  # accepted; everything else
    case.put(NewTokens([1]))
    assert case.ready == 2


def test_unstreamed_is_one_response_with_the_prompt_info(triton_request: Any) -> None:
    case = Case(triton_request(), streamed=False)
    case.put(PromptAccepted(3, 0), *(NewTokens([token]) for token in ANSWER))
    case.stream.flush()
    assert case.sender.sent == []
    case.put(finished())
    case.stream.flush()
    (event,), tokens, text = case.answer()
    assert isinstance(event, Finished)
    assert event.prompt == INFO
    assert (tokens, text) == (ANSWER, TEXT)
    assert (len(case.sender.sent), case.sender.finals) == (1, 1)


def test_without_return_text_nothing_is_decoded(triton_request: Any) -> None:
    case = Case(triton_request(), return_text=False)
    case.put(NewTokens(ANSWER), finished())
    case.stream.flush()
    _, tokens, text = case.answer()
    assert (tokens, text) == (ANSWER, "")


def test_text_ends_before_the_stop_string(triton_request: Any) -> None:
    case = Case(triton_request(), stop=["dich"])
    case.put(NewTokens(ANSWER), finished())
    case.stream.flush()
    assert case.answer()[2] == "Grüß "


def test_text_that_was_held_back_comes_with_the_end(triton_request: Any) -> None:
    case = Case(triton_request(), stop=["Welt! Oder"])
    case.put(NewTokens(ANSWER[:-1]))
    case.stream.flush()
    assert case.answer()[2] == "Grüß dich, "  # the rest may still become the stop string
    case.put(finished(len(ANSWER) - 1, "length"))
    case.stream.flush()
    assert case.answer()[2] == TEXT


@pytest.mark.parametrize("streamed", [True, False])
def test_a_failure_ends_the_stream_with_its_error(triton_request: Any, streamed: bool) -> None:
    case = Case(triton_request(), streamed=streamed)
    case.put(PromptAccepted(3, 0), NewTokens(ANSWER[:2]), SequenceFailed(InternalError("It broke.")))
    case.stream.flush()
    assert case.sender.sent[-1].error.message == "[internal_error] It broke."
    assert (case.sender.finals, case.ended) == (1, 1)


def test_an_abandoned_stream_says_so_and_swallows_the_rest(triton_request: Any) -> None:
    case = Case(triton_request())
    case.put(PromptAccepted(3, 0))
    case.stream.flush()
    case.stream.abandon()
    case.put(NewTokens([1]), finished(1, "cancelled"))
    case.stream.flush()
    assert case.sender.sent[-1].error.message == "[engine_unavailable] The engine was stopped."
    assert (len(case.sender.sent), case.sender.finals) == (2, 1)
    assert not case.stream.is_cancelled()  # and does not ask Triton, which has freed the sender


def test_abandoning_does_not_raise_when_nothing_can_be_sent(triton_request: Any) -> None:
    case = Case(triton_request())
    case.sender.broken = True
    case.stream.abandon()
    assert case.ended == 1


def test_an_error_tells_its_code(triton_request: Any) -> None:
    request = triton_request()
    Responder(request).fail(EngineUnavailable("Gone."))
    (response,) = request.sender.sent
    assert response.error.code == response.error.UNAVAILABLE


class Outlet:
    """Notes what it is told."""

    closed = False

    def __init__(self, ticket: int | None = 1) -> None:
        self.ticket = ticket
        self.told: list[object] = []

    def put(self, token_ids: list[int]) -> None:
        self.told += token_ids

    def hurry(self) -> None:
        self.told.append("hurry")


def test_first_tokens_and_the_end_are_not_kept_waiting(triton_request: Any) -> None:
    outlet: Any = Outlet()
    generation = GenerationRequest(PROMPT, INFO, GenerationOptions(), streamed=True, return_text=False)
    ready: list[AnswerStream] = []
    stream = AnswerStream(
        "r", generation, Responder(triton_request()), outlet, on_ready=ready.append, on_end=lambda _: None
    )
    for token in range(1, 7):
        stream.put(NewTokens([token]))
    assert outlet.told == [1, "hurry", 2, "hurry", 3, "hurry", 4, "hurry", 5, 6]
    assert ready == []
    stream.put(finished())
    assert outlet.told[-2:] == [6, "hurry"]
    assert ready == [stream]


def test_without_a_ticket_all_comes_on_the_requests_own_stream(triton_request: Any) -> None:
    outlet: Any = Outlet(ticket=None)
    generation = GenerationRequest(PROMPT, INFO, GenerationOptions(), streamed=True, return_text=False)
    request = triton_request()
    stream = AnswerStream(
        "r", generation, Responder(request), outlet, on_ready=lambda _: None, on_end=lambda _: None
    )
    stream.put(NewTokens([1]))
    stream.put(finished())
    stream.flush()
    assert outlet.told == []
    assert len(request.sender.sent) == 1
    assert not stream.is_cancelled()
    outlet.closed = True
    assert stream.is_cancelled()
