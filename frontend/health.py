"""`/livez` (restart me when this fails), `/readyz` (send me requests), `/health` (how it is, in numbers).

Open to everybody, for balancers have no key: numbers of what runs are for those who may ask it anything.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from frontend.routing.target import Target
from frontend.service import Service
from gpt_oss_triton import __version__

router = APIRouter()


@router.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    service: Service = request.app.state.service
    problems = service.problems()
    if problems:
        return JSONResponse({"status": "not ready", "problems": problems}, status_code=503)
    return JSONResponse({"status": "ready"})


@router.get("/health")
async def health(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    in_detail = request.state.caller is not None
    return {
        "status": "ready" if not service.problems() else "not ready",
        "version": __version__,
        "draining": service.draining,
        "engines": {target.name: _engine(target, in_detail) for target in service.targets},
    }


def _engine(target: Target, in_detail: bool) -> dict[str, Any]:
    state = {
        "model": target.ensemble,
        "ready": target.problem is None,
        "problem": target.problem,
        "silence_s": round(target.watch.silence_s, 3),
    }
    if not in_detail:
        return state
    return {**state, "in_flight": target.watch.in_flight, "load": msgspec.to_builtins(target.load)}
