"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from frontend.service import Service

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    service: Service = request.app.state.service
    return {"object": "list", "data": [_model(service, model) for model in service.models]}


@router.get("/v1/models/{model:path}")
async def retrieve_model(request: Request, model: str) -> dict[str, Any]:
    service: Service = request.app.state.service
    service.resolve(model)
    return _model(service, model)


def _model(service: Service, model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": service.created, "owned_by": "gpt-oss-triton"}
