"""`POST /v1/responses`."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator
from functools import partial

import msgspec
from fastapi import APIRouter, Request, Response

from frontend import chat_answers
from frontend.chat_answers import ChatAnswers
from frontend.chat_messages import Turn
from frontend.chat_request import Chat, Effort
from frontend.fold import Ending, Part
from frontend.reasoning_memory import ReasoningMemory, explained
from frontend.request_body import apart_if_large, apart_if_slow, body_of
from frontend.request_schemas import body_schema
from frontend.responses.input_items import input_items
from frontend.responses.item_turns import Turns, read_items
from frontend.responses.live import Live, LiveResponses
from frontend.responses.output import Event
from frontend.responses.references import resolved
from frontend.responses.reply import Reply
from frontend.responses.request import CreateResponse, read_response, turns_of
from frontend.responses.store import ResponseStore, Stored
from frontend.responses.translation import chat_from, own_param, prefaced
from frontend.responses.truncation import fitted
from frontend.run_context import accepted, streamed, under_load
from frontend.service import Service
from gpt_oss_triton.errors import Cancelled, NotFound, ServiceError
from gpt_oss_triton.telemetry.record import RequestRecord

router = APIRouter()


@router.post("/v1/responses", openapi_extra=body_schema("CreateResponse"))
async def create_response(request: Request) -> Response:
    service: Service = request.app.state.service
    live: LiveResponses = request.app.state.live_responses
    record: RequestRecord = request.state.record
    caller = request.state.caller
    body = await body_of(request)
    asked = await apart_if_large(body, read_response, body, service.sampling)
    service.resolve(asked.model)
    asked = resolved(asked, partial(_store(request).items, caller))
    turns = _continued(request, asked, await apart_if_large(body, turns_of, asked))
    effort = asked.effort or service.settings.default_reasoning_effort
    chat, places = await _chat(request, body, asked, turns, effort)
    chat, headers = under_load(chat, service)
    reply = Reply(asked, f"resp_{uuid.uuid4().hex}", int(time.time()), effort)
    record.model, record.completion_id, record.stream = chat.model, reply.id, chat.stream

    async with contextlib.AsyncExitStack() as stack:
        answers = await chat_answers.begin(request, chat, body)
        making = _Making(request, asked, turns.turns, answers, reply)
        stack.enter_context(live.during(caller, Live(reply, making.cancel)))
        of_caller = accepted(request, answers, lambda param: own_param(chat.own_param(param), places))
        await stack.enter_async_context(of_caller)
        headers |= service.admission.limit_headers(caller)
        if asked.stream:
            return streamed(request, making.events(), stack, headers, making.fail)
        await making.whole()
        whole = msgspec.json.encode(reply.record())
        return Response(whole, media_type="application/json", headers=headers)


def _store(request: Request) -> ResponseStore:
    return request.app.state.response_store  # type: ignore[no-any-return]  # state is untyped


def _continued(request: Request, asked: CreateResponse, new: Turns) -> Turns:
    """The turns of the conversation so far, and the new ones."""
    if asked.previous_response_id is None:
        return new
    previous = _store(request).get(request.state.caller, asked.previous_response_id)
    if previous is None:
        raise NotFound(
            "There is no such response, or it is held no longer: send the conversation itself as input.",
            param="previous_response_id",
        )
    places = ["previous_response_id"] * len(previous.turns)
    return Turns([*previous.turns, *new.turns], [*places, *new.places])


async def _chat(
    request: Request, body: bytes, asked: CreateResponse, turns: Turns, effort: Effort
) -> tuple[Chat, list[str]]:
    """The chat that a response is, and where in the request its messages come from."""
    service: Service = request.app.state.service
    make = partial(chat_from, asked, default_effort=effort, guided=service.settings.guided_calls)
    chat = await apart_if_slow(body, make, turns)
    load = service.load_of(service.resolve(asked.model))
    if asked.truncation == "auto" and load is not None:
        reserve = min(service.settings.output_reserve_tokens, load.max_context // 4)
        room = load.max_context - (asked.max_output_tokens or reserve)
        memory: ReasoningMemory = request.app.state.reasoning_memory
        known = memory.known(request.state.caller, chat)  # it takes room as well

        def make_chat(some: Turns) -> Chat:
            return explained(make(some), known)

        chat, turns = await fitted(explained(chat, known), turns, room, make_chat)
    return chat, prefaced(asked, turns).places


class _Making:
    """A response on its way to its end, which stores it: its answer's, a failure or `cancel`, whichever comes first."""

    def __init__(
        self, request: Request, asked: CreateResponse, turns: list[Turn], answers: ChatAnswers, reply: Reply
    ) -> None:
        self._request = request
        self._asked = asked
        self._turns = turns
        self._answers = answers
        self._reply = reply

    async def events(self) -> AsyncGenerator[bytes]:
        """The response, streamed."""
        reply = self._reply
        for data in reply.begin():
            yield data
        async for _, part in self._answers:
            for change in self._take(part):
                yield reply.encode(change)

    async def whole(self) -> None:
        """The response, complete; or as it was when its caller cancelled it."""
        try:
            async for _, part in self._answers:
                self._take(part)
        except ServiceError:
            if self._reply.status != "cancelled":
                raise

    def cancel(self) -> None:
        """Its caller wants no more of it."""
        if self._reply.status == "in_progress":
            error = Cancelled("The response was cancelled.")
            self._break_off(error)
            self._answers.runs.stop(error)

    def fail(self, failure: ServiceError) -> bytes:
        """The last event of a response that failed or was cancelled."""
        self._break_off(failure)
        return self._reply.encode({"type": "response.failed", "response": self._reply.record()})

    def _break_off(self, failure: ServiceError) -> None:
        """It is stored as far as it came, unless it has ended."""
        if self._reply.status == "in_progress":
            self._reply.fail(failure)
            self._keep()

    def _take(self, part: Part) -> list[Event]:
        """What a part of the answer changes.

        Raises:
            Cancelled: the part had been read ahead of the client when the response was cancelled.
        """
        if self._reply.status == "cancelled":
            raise Cancelled("The response was cancelled.")
        if not isinstance(part, Ending):
            return self._reply.output.add(part)
        events = self._reply.finish(part, self._answers.usage())
        self._keep()
        return events

    def _keep(self) -> None:
        caller = self._request.state.caller
        live: LiveResponses = self._request.app.state.live_responses
        deleted = live.get(caller, self._reply.id) is None
        if self._asked.store and not deleted:
            _store(self._request).put(caller, self._reply.id, self._stored())

    def _stored(self) -> Stored:
        # A call that was cut cannot be answered, and would be a broken one in the next prompt.
        made = [
            item
            for item in self._reply.output.items
            if (item["type"], item["status"]) != ("function_call", "incomplete")
        ]
        given = input_items(self._asked.input)
        return Stored(
            response=msgspec.json.encode(self._reply.record()),
            input_items=msgspec.json.encode(given),
            turns=[*self._turns, *read_items(made, "output").turns],
            item_ids=tuple(item["id"] for item in (*given, *self._reply.output.items)),
        )
