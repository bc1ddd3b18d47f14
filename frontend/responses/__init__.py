"""OpenAI's Responses API: a chat whose turns are items, kept for a while so that the next one can go on from it."""

from __future__ import annotations

from fastapi import APIRouter

from frontend.responses import create, stored

router = APIRouter()
router.include_router(create.router)
router.include_router(stored.router)
