"""Streams that push the engine's load until their client goes."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable

from gpt_oss_triton.errors import Overloaded, ServiceError
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.triton_backend.ticker import Ticker
from gpt_oss_triton.wire import Load

MAX_STREAMS = 64  # each is a shim, or a person who looks; more is a leak on the other side


class WatchStreams:
    def __init__(self, load: Callable[[int], Load], ticker: Ticker) -> None:
        """`load` gives a snapshot with the sequence number it is passed."""
        self._load = load
        self._ticker = ticker
        self._lock = threading.Lock()
        self._open: set[Responder] = set()  # guarded by _lock

    def open(self, responder: Responder, interval_s: float) -> None:
        """Push a first report at once, and one each `interval_s` after it.

        Raises:
            Overloaded: MAX_STREAMS are open.
        """
        with self._lock:
            if len(self._open) >= MAX_STREAMS:
                raise Overloaded(
                    f"{MAX_STREAMS} watch streams are open, which is the limit.", retry_after_s=1
                )
            self._open.add(responder)
        sequence = itertools.count()
        self._ticker.add(lambda: self._push(responder, next(sequence), interval_s))

    def close(self) -> None:
        """End all streams. Call it when the ticker has ended."""
        with self._lock:
            open_streams, self._open = self._open, set()
        for responder in open_streams:
            with contextlib.suppress(
                Exception
            ):  # of one that Triton has given up: the others must end as well
                responder.end()

    def _push(self, responder: Responder, sequence: int, interval_s: float) -> float | None:
        ended = True  # whatever keeps a report from being sent ends its stream
        try:
            if not responder.is_cancelled():
                responder.send(event=self._load(sequence))
                ended = False
        except ServiceError as error:
            responder.fail(error)
        finally:
            if ended:
                self._forget(responder)
        return None if ended else interval_s

    def _forget(self, responder: Responder) -> None:
        with self._lock:
            self._open.discard(responder)
        responder.end()
