"""One uvicorn server on a socket that is already bound, and what its signals mean.

The first SIGTERM or SIGINT drains: `/readyz` and new completions answer 503, running answers finish. The
second ends those at once, still telling the engines; the third leaves everything as it is and exits.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from frontend.app import create_app
from frontend.http_protocol import bounded_protocol
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import ports

log = logging.getLogger(__name__)

_CLOSE_CONNECTIONS_S = 5  # after the drain, for clients that have not read their answer


class DrainingServer(uvicorn.Server):
    """A uvicorn server whose signals drain the application before the sockets close."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._hurry = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what lives as long as the server, so that no full collection looks through it again

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._on_signal)

    def _on_signal(self) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_and_exit())
        elif not self._hurry.is_set():
            self._hurry.set()
        else:
            self.should_exit = self.force_exit = True

    async def _drain_and_exit(self) -> None:
        await self._app.state.service.drain(self._hurry)
        self.should_exit = True


def bind(host: str, port: int, fd: int | None = None) -> socket.socket:
    """The listening socket: the inherited descriptor `fd`, or a new one; port 0 is a free one.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    if fd is not None:
        try:
            return socket.socket(fileno=fd)
        except OSError as error:
            raise ConfigurationError(f"descriptor {fd} is not a socket: {error}") from error
    try:
        return ports.bind(host, port)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error


def serve(settings: FrontendSettings, listener: socket.socket) -> None:
    """Serve until a signal ends it."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=bounded_protocol(settings.max_header_bytes, settings.body_timeout_s),
        ws="none",
        lifespan="on",
        access_log=False,  # `Observed` has every request logged once
        log_config=None,
        server_header=False,
        backlog=ports.BACKLOG,
        timeout_graceful_shutdown=_CLOSE_CONNECTIONS_S,
    )
    host, port = listener.getsockname()[:2]
    tritons = ", ".join(target.url for target in settings.targets) or settings.triton_url
    log.info("listening on http://%s:%d, Triton at %s", host, port, tritons)
    DrainingServer(config, app).run(sockets=[listener])
