"""`GET /metrics`: Prometheus text, or OpenMetrics with exemplars for a scraper that asks for it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from frontend.service import Service
from frontend.snapshot import snapshot
from gpt_oss_triton.errors import NotFound

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    accept = request.headers.get("accept", "")
    rendered = await service.telemetry.exposition(accept, snapshot(service))
    if rendered is None:
        raise NotFound("Metrics are switched off.")
    text, content_type = rendered
    return Response(text, headers={"content-type": content_type})
