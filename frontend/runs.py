"""The runs to one request, read as one: all are accepted, or the first failure ends all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from frontend.boundary import as_service_error
from frontend.run import Run
from frontend.triton import Answer
from gpt_oss_triton.errors import ServiceError


class Runs:
    """Use as `async with`, await `accepted`, then iterate over (index of the run, answer).

    Each run has a task that reads it: one that is accepted must go on while another waits for its place, and one that has
    ended gives up its place, also where its client reads slowly or not at all. What was read and not yet passed on is bounded
    by the lengths of the answers.

    Args:
        streamed: the reader wants what there is, while further runs wait for their places.

    Raises:
        ServiceError: from `accepted` and the iteration, the first one of any run.
    """

    def __init__(self, runs: Sequence[Run], *, streamed: bool) -> None:
        self._runs = runs
        self._streamed = streamed
        self._accepted: list[asyncio.Future[None]] = []
        self._came: asyncio.Queue[tuple[int, Answer | ServiceError | None]] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []
        self._open = set(range(len(runs)))  # of these more is to come

    async def __aenter__(self) -> Self:
        self._accepted = [asyncio.get_running_loop().create_future() for _ in self._runs]
        self._readers = [
            asyncio.create_task(self._read(index), name=f"run {index}") for index in range(len(self._runs))
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for waiting in (*self._readers, *self._accepted):
            waiting.cancel()
        await asyncio.gather(*self._readers, *self._accepted, return_exceptions=True)

    async def accepted(self) -> None:
        """Wait until all runs are accepted; of a streamed request, all but those that have to wait for their places."""
        if not self._streamed:
            await asyncio.gather(*self._accepted)
            return
        await self._accepted[0]
        for run, accepted in zip(self._runs, self._accepted, strict=True):
            if accepted.done() or not run.waits:
                await accepted
            else:
                accepted.set_result(None)  # what becomes of it is told in the stream

    async def __aiter__(self) -> AsyncIterator[tuple[int, Answer]]:
        while self._open:
            index, came = await self._came.get()
            if index not in self._open:
                continue
            if isinstance(came, ServiceError):
                raise came
            if came is None:
                self._open.discard(index)
            else:
                yield index, came

    def stop(self, error: ServiceError) -> None:
        """End all now; the reader gets `error`."""
        for run in self._runs:
            run.stop(error)

    def leave(self, index: int) -> None:
        """No more of this run is wanted: end it."""
        self._open.discard(index)
        self._readers[index].cancel()

    async def _read(self, index: int) -> None:
        accepted = self._accepted[index]
        try:
            async with self._runs[index] as run:
                await run.accepted()
                if not accepted.done():  # nobody may be waiting for it any more
                    accepted.set_result(None)
                async for answer in run:
                    self._came.put_nowait((index, answer))
                self._came.put_nowait((index, None))
        except Exception as error:  # the task's boundary: who reads gets it
            failure = as_service_error(error)
            if accepted.done():
                self._came.put_nowait((index, failure))
            else:
                accepted.set_exception(failure)
