"""The requests that the engine is working on, by id."""

from __future__ import annotations

import threading

from cachetools import TTLCache

from gpt_oss_triton.errors import Cancelled, InvalidRequest
from gpt_oss_triton.triton_backend.answer_stream import AnswerStream

EARLY_CANCEL_S = 30.0  # a prompt takes less than this from the client to the engine
_REMEMBERED = 4096


class LiveRequests:
    """Also remembers cancellations that came before their request: through an ensemble the prompt is
    rendered first, and a client that leaves meanwhile must not be computed for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, AnswerStream] = {}
        self._early: TTLCache[str, None] = TTLCache(_REMEMBERED, EARLY_CANCEL_S)
        self._ended: TTLCache[str, None] = TTLCache(_REMEMBERED, EARLY_CANCEL_S)

    def add(self, stream: AnswerStream) -> None:
        """Raises:
        Cancelled: this id was cancelled within the last EARLY_CANCEL_S seconds, before it came.
        InvalidRequest: the id belongs to a live request.
        """
        with self._lock:
            if stream.request_id in self._early:
                del self._early[stream.request_id]
                raise Cancelled("The request was cancelled before it reached the engine.")
            if stream.request_id in self._streams:
                raise InvalidRequest(
                    f"A request with the id {stream.request_id!r} is running already.", param="request_id"
                )
            self._streams[stream.request_id] = stream

    def discard(self, stream: AnswerStream) -> None:
        with self._lock:
            if self._streams.get(stream.request_id) is stream:
                del self._streams[stream.request_id]
                self._ended[stream.request_id] = None

    def cancel_early(self, request_id: str) -> None:
        """Remember an id that was to be cancelled and has not come. One that has ended is no such id: its
        client may use it again."""
        with self._lock:
            if request_id not in self._streams and request_id not in self._ended:
                self._early[request_id] = None

    def all(self) -> list[AnswerStream]:
        with self._lock:
            return list(self._streams.values())
