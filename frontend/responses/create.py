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
from frontend.event_stream import EventStream
from frontend.fold import Ending
from frontend.request_body import apart_if_large, body_of
from frontend.request_schemas import body_schema
from frontend.responses.input_items import input_items
from frontend.responses.item_turns import Turns, read_items
from frontend.responses.live import Live, LiveResponses
from frontend.responses.output import Event
from frontend.responses.reply import Reply
from frontend.responses.request import CreateResponse, read_response
from frontend.responses.store import ResponseStore, Stored
from frontend.responses.translation import chat_from, own_param
from frontend.run_context import (
    SLOW_READER_GRACE_S,
    limits_told,
    params_renamed,
    stop_on_disconnect,
    under_load,
)
from frontend.service import Service
from gpt_oss_triton.errors import Cancelled, NotFound
from gpt_oss_triton.telemetry.record import RequestRecord

router = APIRouter()


@router.post("/v1/responses", openapi_extra=body_schema("CreateResponse"))
async def create_response(request: Request) -> Response:
    service: Service = request.app.state.service
    live: LiveResponses = request.app.state.live_responses
    record: RequestRecord = request.state.record
    caller = request.state.caller
    body = await body_of(request)
    asked, new_turns = await apart_if_large(body, read_response, body, service.sampling)
    ensemble = service.resolve(asked.model)
    turns = _continued(request, asked, new_turns)
    effort = asked.effort or service.settings.default_reasoning_effort
    chat = await apart_if_large(body, chat_from, asked, turns, effort)
    options, headers = under_load(chat.options, service, ensemble)
    chat = msgspec.structs.replace(chat, options=options)
    reply = Reply(asked, f"resp_{uuid.uuid4().hex}", int(time.time()), effort)
    record.model, record.completion_id, record.stream = chat.model, reply.id, chat.stream

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(limits_told(service, caller))
        answers = await chat_answers.begin(request, chat, body)
        await stack.enter_async_context(answers.runs)
        stack.enter_context(stop_on_disconnect(request, answers.runs.stop))
        of_reply = stack.enter_context(live.during(caller, reply, answers.runs.stop))
        with params_renamed(partial(own_param, places=turns.places)):
            await answers.runs.accepted()  # until here every failure has a status of its own
        making = _Making(request, asked, turns.turns, answers, reply)
        headers |= service.admission.limit_headers(caller)
        if asked.stream:
            timeout_s = service.settings.request_timeout_s + SLOW_READER_GRACE_S
            return EventStream(making.events(), stack.pop_all(), timeout_s, headers, reply.fail)
        await making.whole(of_reply)
        whole = msgspec.json.encode(reply.record())
        return Response(whole, media_type="application/json", headers=headers)


def _continued(request: Request, asked: CreateResponse, new: Turns) -> Turns:
    """The turns of the conversation so far, and the new ones."""
    if asked.previous_response_id is None:
        return new
    store: ResponseStore = request.app.state.response_store
    previous = store.get(request.state.caller, asked.previous_response_id)
    if previous is None:
        raise NotFound(
            "There is no such response, or it is held no longer: send the conversation itself as input.",
            param="previous_response_id",
        )
    places = ["previous_response_id"] * len(previous.turns)
    return Turns([*previous.turns, *new.turns], [*places, *new.places])


class _Making:
    """An accepted response on its way to its end, which stores it."""

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
            for change in self._finish(part) if isinstance(part, Ending) else reply.output.add(part):
                yield reply.encode(change)

    async def whole(self, live: Live) -> None:
        """The response, complete; or as it was when its caller cancelled it."""
        try:
            async for _, part in self._answers:
                if isinstance(part, Ending):
                    self._finish(part)
                else:
                    self._reply.output.add(part)
        except Cancelled as error:
            if not live.cancelled:
                raise
            self._reply.fail(error)

    def _finish(self, ending: Ending) -> list[Event]:
        events = self._reply.finish(ending)
        if self._asked.store:
            store: ResponseStore = self._request.app.state.response_store
            store.put(self._request.state.caller, self._reply.id, self._stored())
        return events

    def _stored(self) -> Stored:
        # A call that was cut cannot be answered, and would be a broken one in the next prompt.
        made = [
            item
            for item in self._reply.output.items
            if (item["type"], item["status"]) != ("function_call", "incomplete")
        ]
        return Stored(
            response=msgspec.json.encode(self._reply.record()),
            input_items=msgspec.json.encode(input_items(self._asked.input)),
            turns=[*self._turns, *read_items(made, "output").turns],
        )
