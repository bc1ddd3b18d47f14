from __future__ import annotations

import socket

import pytest

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import ports


def test_the_socket_listens_at_once() -> None:
    with ports.listen("127.0.0.1", 0) as listener, socket.create_connection(ports.local_address(listener)):
        assert ports.local_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_taken_port_is_refused_and_says_what_to_do() -> None:
    with ports.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=f"port {port} is in use.*--auto-port"):
            ports.listen("127.0.0.1", port)


def test_auto_takes_the_next_free_one() -> None:
    with ports.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with ports.listen("127.0.0.1", port, auto=True) as second:
            assert port < second.getsockname()[1] < port + 100


def test_auto_ends_at_the_last_port() -> None:
    with ports.listen("127.0.0.1", 65535, auto=True) as first:
        assert first.getsockname()[1] == 65535
        with pytest.raises(ports.PortTaken, match="65535"):
            ports.listen("127.0.0.1", 65535, auto=True)


def test_a_port_is_free_again_right_after_a_connection() -> None:
    with ports.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.close()  # this side closes first, and keeps the connection in TIME_WAIT
        client.close()
    ports.listen("127.0.0.1", port).close()


def test_patience_gets_a_port_that_its_holder_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ports.listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    monkeypatch.setattr(ports.time, "sleep", lambda seconds: first.close())
    with ports.listen("127.0.0.1", port, patience_s=60) as second:
        assert second.getsockname()[1] == port


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid", "a..b"])
def test_an_address_that_is_not_here_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}"):
        ports.listen(host, 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1")],  # noqa: S104
)
def test_the_url_is_one_to_connect_to(host: str, expected: str) -> None:
    with ports.listen(host, 0) as listener:
        assert ports.local_url(listener).startswith(f"http://{expected}:")
