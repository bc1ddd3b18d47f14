"""Stacks tell where everything is, and nothing of what it works on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from frontend.stacks import task_stacks, thread_stacks

pytestmark = pytest.mark.anyio


async def waits_deep_inside(secret: str) -> str:
    await waits(secret)
    return secret


async def waits(secret: str) -> None:
    async for _ in yields(secret):
        pass


async def yields(secret: str) -> AsyncIterator[str]:
    await asyncio.Event().wait()
    yield secret


async def test_tasks_at_the_same_place_are_counted_together() -> None:
    tasks = [asyncio.create_task(waits_deep_inside("s3cret"), name=f"waiter-{n:02}") for n in range(20)]
    await asyncio.sleep(0)
    text = task_stacks()
    (paragraph,) = (p for p in text.split("\n\n") if "waits_deep_inside" in p)
    head, *positions = paragraph.splitlines()
    assert head == "20 tasks: waiter-00, waiter-01, waiter-02, waiter-03, waiter-04, …"
    assert positions[0].endswith("in waits_deep_inside")
    assert positions[1].endswith("in waits")
    assert __file__ in positions[0]
    assert "s3cret" not in text
    for task in tasks:
        task.cancel()


def test_threads() -> None:
    go = threading.Event()

    def blocked(secret: str) -> None:
        go.wait()

    thread = threading.Thread(target=blocked, args=("s3cret",), name="blocked one")
    thread.start()
    text = thread_stacks()
    go.set()
    thread.join()
    (paragraph,) = (p for p in text.split("\n\n") if p.startswith("thread blocked one"))
    assert "in test_threads.<locals>.blocked" in paragraph
    assert "in Event.wait" in paragraph
    assert "s3cret" not in text
    (mine,) = (p for p in text.split("\n\n") if "in test_threads\n" in p)
    assert mine.endswith("in thread_stacks")
