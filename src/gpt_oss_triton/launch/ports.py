"""The listening socket: bound once, by the launcher, and handed down by descriptor.

Nobody else can take the port between a check and its use, and it stays ours while the shim is restarted:
connections wait in the backlog meanwhile.
"""

from __future__ import annotations

import errno
import socket
import time

from gpt_oss_triton.errors import ConfigurationError

BACKLOG = 2048
_AUTO_TRIES = 100
_RETRY_S = 0.05


class PortTaken(ConfigurationError):
    """Another process listens there."""


def listen(host: str, port: int, *, auto: bool = False, patience_s: float = 0.0) -> socket.socket:
    """A listening TCP socket; with `auto`, at the first free port from `port` on. `patience_s` is for `port`
    itself to become free.

    Raises:
        PortTaken: the port, or with `auto` every one of the hundred tried, is in use.
        ConfigurationError: this host or port cannot be listened on at all.
    """
    last = min(port + _AUTO_TRIES, 65536) if auto else port + 1
    for candidate in range(port, last):
        try:
            return _bind_within(patience_s if candidate == port else 0.0, host, candidate)
        except UnicodeError:  # of the host's encoding for DNS, as with an empty part between two dots
            raise ConfigurationError(f"cannot listen on {host}: it is no host name.") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"cannot listen on {host} port {candidate}: {error.strerror}."
                ) from None
    if auto:
        raise PortTaken(f"ports {port} to {last - 1} are all in use.")
    raise PortTaken(
        f"port {port} is in use. --auto-port takes the next free one, --port N another one; "
        "--force-port ends an earlier server of your own on it."
    )


def local_address(listener: socket.socket) -> tuple[str, int]:
    """Host and port at which a client on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    return wildcards.get(host, host), port


def local_url(listener: socket.socket) -> str:
    host, port = local_address(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind_within(patience_s: float, host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 is a free one.

    Raises:
        OSError: the address cannot be used.
        UnicodeError: `host` is no host name.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not in TIME_WAIT's way
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
