"""`/livez` (restart me when this fails), `/readyz` (send me requests), `/health` (how it is, in numbers)."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from frontend.engine_watch import EngineWatch
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
    return {
        "status": "ready" if not service.problems() else "not ready",
        "version": __version__,
        "draining": service.draining,
        "engines": {engine.engine: _engine(engine, request.state.authorized) for engine in service.engines},
    }


def _engine(engine: EngineWatch, in_detail: bool) -> dict[str, Any]:
    """How one engine is; only those who may ask it anything are told what runs in it, and how much."""
    state = {
        "model": engine.ensemble,
        "ready": engine.problem is None,
        "problem": engine.problem,
        "in_flight": engine.in_flight,
        "silence_s": round(engine.silence_s, 3),
    }
    return {**state, "load": msgspec.to_builtins(engine.load)} if in_detail else state
