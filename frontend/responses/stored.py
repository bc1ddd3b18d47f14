"""What can be asked of a response afterwards, or meanwhile: `/v1/responses/{id}` and below."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from frontend.responses.live import Live, LiveResponses
from frontend.responses.store import ResponseStore, Stored
from gpt_oss_triton.errors import InvalidRequest, MethodNotAllowed, NotFound, UnsupportedParameter

router = APIRouter()

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 100


@router.get("/v1/responses/{response_id}")
async def retrieve(request: Request, response_id: str) -> Response:
    if request.query_params.get("stream", "false") != "false":
        raise UnsupportedParameter("The events of a response are sent once only.", param="stream")
    return Response(_response(request, response_id), media_type="application/json")


@router.delete("/v1/responses/{response_id}")
async def delete(request: Request, response_id: str) -> Response:
    live: LiveResponses = request.app.state.live_responses
    store: ResponseStore = request.app.state.response_store
    caller = request.state.caller
    found = [held.delete(caller, response_id) for held in (live, store)]  # one that has just ended is in both
    if not any(found):
        raise _unknown()
    return _json({"id": response_id, "object": "response", "deleted": True})


@router.api_route(
    "/v1/responses/{response_id}",
    methods=["HEAD", "OPTIONS", "PATCH", "POST", "PUT"],
    include_in_schema=False,
)
async def refuse(response_id: str) -> Response:
    """The router's own answer would name only the methods of the first route of this path."""
    error = MethodNotAllowed("The path does not answer this method.")
    error.headers["allow"] = "DELETE, GET"
    raise error


@router.post("/v1/responses/{response_id}/cancel")
async def cancel(request: Request, response_id: str) -> Response:
    """End a response that is being made; its caller gets what has come of it. Once more changes nothing."""
    if (live := _live(request, response_id)) is not None:
        live.cancel()
    response = _response(request, response_id)
    if msgspec.json.decode(response)["status"] != "cancelled":
        raise InvalidRequest("The response has ended: there is nothing to cancel.", param="response_id")
    return Response(response, media_type="application/json")


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(request: Request, response_id: str) -> Response:
    query = request.query_params
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc.", param="order")
    limit = _limit(query.get("limit"))
    items: list[dict[str, Any]] = msgspec.json.decode(_stored(request, response_id).input_items)
    if order == "desc":
        items.reverse()
    if (after := query.get("after")) is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest("after must be the id of an item of the list.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return _json(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }
    )


def _limit(given: str | None) -> int:
    if given is None:
        return _DEFAULT_LIMIT
    if (
        not given.isascii()
        or not given.isdigit()
        or not 1 <= len(given) <= 3
        or not 1 <= int(given) <= _MAX_LIMIT
    ):
        raise InvalidRequest(f"limit must be a number from 1 to {_MAX_LIMIT}.", param="limit")
    return int(given)


def _live(request: Request, response_id: str) -> Live | None:
    live: LiveResponses = request.app.state.live_responses
    return live.get(request.state.caller, response_id)


def _response(request: Request, response_id: str) -> bytes:
    """As it is now."""
    if (live := _live(request, response_id)) is not None:
        return msgspec.json.encode(live.reply.record())
    return _stored(request, response_id).response


def _stored(request: Request, response_id: str) -> Stored:
    store: ResponseStore = request.app.state.response_store
    stored = store.get(request.state.caller, response_id)
    if stored is None:
        raise _unknown()
    return stored


def _unknown() -> NotFound:
    return NotFound("There is no such response, or it is held no longer.", param="response_id")


def _json(record: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(record), media_type="application/json")
