"""What operators ask and order: `/stats` and `/memory_stats` for all callers, `/admin` for holders of its key."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from frontend import processes
from frontend.bundle import Bundles
from frontend.caller import ANONYMOUS, Caller
from frontend.json_body import read_object
from frontend.service import Service
from frontend.snapshot import kv_map, log_level, settings_in_use, snapshot
from gpt_oss_triton.config import ENV_PREFIX
from gpt_oss_triton.errors import Forbidden, InvalidRequest, Unauthenticated
from gpt_oss_triton.telemetry import logs

log = logging.getLogger(__name__)

_LEVELS = ("debug", "info", "warning", "error")
_MAX_NAME = 64  # characters of a caller's field name that come back


def only_admins(request: Request) -> None:
    """Raises Unauthenticated or Forbidden for all others."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    if service.settings.admin_key is None:
        raise Forbidden(f"Nobody may use /admin: set admin_key ({ENV_PREFIX}ADMIN_KEY), and start again.")
    if caller.name == ANONYMOUS:
        raise Unauthenticated("Give the admin key as 'Authorization: Bearer KEY'.")
    if not caller.admin:
        raise Forbidden(f"The API key of {caller.name} is not the admin key.")


router = APIRouter(include_in_schema=False)
admin = APIRouter(prefix="/admin", dependencies=[Depends(only_admins)])


@router.get("/stats")
async def stats(request: Request) -> Response:
    """The snapshot; for admins with the settings."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    settings = {"settings": settings_in_use(service)} if caller.admin else {}
    return _answer({**snapshot(service), **settings})


@router.get("/memory_stats")
async def memory_stats(request: Request) -> Response:
    """What the memory of this machine and of the engines is used for."""
    service: Service = request.app.state.service
    state = snapshot(service)
    loads = [target.load for target in service.targets if target.load is not None]
    parts = {name: state[name] for name in ("time", "memory", "gpus", "sessions", "response_cache")}
    kv = kv_map(service)
    return _answer({**parts, "kv": kv, "processes": await asyncio.to_thread(processes.memory, loads)})


@admin.get("/debug/bundle")
async def debug_bundle(request: Request) -> Response:
    bundles: Bundles = request.app.state.bundles
    headers = {
        "content-disposition": 'attachment; filename="gpt-oss-triton.zip"',
        "cache-control": "no-store",
    }
    return Response(await bundles.make(), media_type="application/zip", headers=headers)


@admin.post("/drain")
async def drain(request: Request) -> Response:
    """Refuse new completions with 503, or with `{"undo": true}` take them again. Running ones go on."""
    service: Service = request.app.state.service
    undo = (await _fields(request, "undo")).get("undo", False)
    if not isinstance(undo, bool):
        raise InvalidRequest("undo must be true or false.", param="undo")
    if undo:
        service.resume()
    else:
        service.refuse_new()
    log.warning("an admin has ended the drain" if undo else "an admin has begun a drain")
    queued = service.admission.stats()["queued"]
    return _answer({"draining": service.draining, "in_flight": service.in_flight, "queued": queued})


@admin.get("/log-level")
async def read_log_level(request: Request) -> Response:
    return _answer({"level": log_level()})


@admin.post("/log-level")
async def set_log_level(request: Request) -> Response:
    """Change what is logged until the shim ends."""
    level = (await _fields(request, "level")).get("level")
    if level not in _LEVELS:
        raise InvalidRequest(f"level must be one of: {', '.join(_LEVELS)}.", param="level")
    log.warning("an admin has set the log level to %s; it was %s", level, log_level())
    logs.set_level(level)
    return _answer({"level": level})


router.include_router(admin)


async def _fields(request: Request, known: str) -> dict[str, Any]:
    """The body's fields, of which there is one to know; none where there is no body. Raises InvalidRequest."""
    body = await request.body()
    fields = read_object(body) if body else {}
    for name in fields:
        if name != known:
            raise InvalidRequest(f"There is no field {name[:_MAX_NAME]!r} here.", param=name[:_MAX_NAME])
    return fields


def _answer(content: Any) -> Response:
    return Response(
        msgspec.json.encode(content), media_type="application/json", headers={"cache-control": "no-store"}
    )
