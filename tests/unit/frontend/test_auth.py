"""Who is let in, as whom, and what the others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from frontend.auth import KeyAuth, Keys, open_paths
from frontend.caller import Caller, digest_of
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ConfigurationError, Unauthenticated
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
KEYS = f"""
[[key]]
name = "alice"
sha256 = "{digest_of(b"alice-key").hex()}"
priority = "high"
[[key]]
name = "bob"
sha256 = "{digest_of(b"bob-key").hex()}"
disabled = true
[[key]]
name = "carol"
sha256 = "{digest_of(b"carol-key").hex()}"
expires = 2027-01-15T08:00:00Z
"""  # carol's is NOW


def settings(**fields: Any) -> FrontendSettings:
    secrets = {name: SecretStr(value) for name, value in fields.items() if name in ("api_key", "admin_key")}
    return FrontendSettings(**{**fields, **secrets})


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return written(tmp_path / "keys.toml", KEYS)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def enter(
    keys: Keys, authorization: str | None, path: str = "/v1/models", now: float = NOW
) -> tuple[Caller | None, str | None]:
    """The caller that the application saw, and the name in the record; Unauthenticated when it saw none."""
    record = RequestRecord("id", TraceContext.new(), "GET", path)
    seen: list[Caller | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["caller"])

    async def receive() -> Message:
        raise AssertionError("the body is none of its business")

    async def send(message: Message) -> None:
        raise AssertionError("answering is none of its business")

    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    scope = {"type": "http", "path": path, "headers": headers, "state": {"record": record}}
    await KeyAuth(application, keys, open_paths(FrontendSettings()), lambda: now)(scope, receive, send)
    return seen[0], record.key


@pytest.mark.parametrize("authorization", [None, "", "Bearer none", "Basic x"])
async def test_without_keys_everybody_is_anonymous(authorization: str | None) -> None:
    caller, name = await enter(Keys.of(settings(default_priority="low")), authorization)
    assert caller == Caller("anonymous", "low")
    assert caller.salt == ""
    assert name == "anonymous"


@pytest.mark.parametrize("authorization", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
async def test_the_one_key(authorization: str) -> None:
    caller, name = await enter(Keys.of(settings(api_key="s3cret")), authorization)
    assert caller is not None
    assert name == caller.name == "default"
    assert caller.salt
    assert not caller.admin


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        (None, "Bearer KEY"),
        ("", "Bearer KEY"),
        ("s3cret", "Bearer KEY"),
        ("Basic s3cret", "Bearer KEY"),
        ("Bearer", "wrong"),
        ("Bearer ", "wrong"),
        ("Bearer wrong", "wrong"),
        ("Bearer s3cre", "wrong"),
        ("Bearer s3cret\xe4", "wrong"),
        ("Bearer s3cret s3cret", "wrong"),
        ("Bearer bob-key", "disabled"),
        ("Bearer carol-key", "expired"),
    ],
)
async def test_others_are_told_why(authorization: str | None, words: str, keys_path: Path) -> None:
    keys = Keys.of(settings(api_key="s3cret", api_keys_file=keys_path))
    with pytest.raises(Unauthenticated) as caught:
        await enter(keys, authorization)
    assert words in caught.value.message
    assert "s3cret" not in caught.value.message


async def test_every_key_of_the_file_is_its_own_caller(keys_path: Path) -> None:
    keys = Keys.of(settings(api_key="s3cret", api_keys_file=keys_path))
    alice, _ = await enter(keys, "Bearer alice-key")
    carol, _ = await enter(keys, "Bearer carol-key", now=NOW - 1)
    default, _ = await enter(keys, "Bearer s3cret")
    assert alice is not None
    assert carol is not None
    assert default is not None
    assert [alice.name, carol.name, default.name] == ["alice", "carol", "default"]
    assert [alice.priority, carol.priority] == ["high", "normal"]
    assert len({alice.salt, carol.salt, default.salt}) == 3


async def test_a_key_of_other_letters_than_ascii() -> None:
    keys = Keys.of(settings(api_key="schlüssel"))
    caller, _ = await enter(keys, "Bearer " + "schlüssel".encode().decode("latin-1"))
    assert caller is not None


async def test_a_keys_file_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.toml", "")
    for authorization in (None, "Bearer ", "Bearer x"):
        with pytest.raises(Unauthenticated):
            await enter(Keys.of(settings(api_keys_file=path)), authorization)


async def test_a_changed_file_changes_who_comes_in(keys_path: Path) -> None:
    keys = Keys.of(settings(api_keys_file=keys_path))
    assert keys.file is not None
    written(keys_path, KEYS.replace(digest_of(b"alice-key").hex(), "0" * 64) + "# changed")
    keys.file.check()
    with pytest.raises(Unauthenticated):
        await enter(keys, "Bearer alice-key")


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/health", "/metrics"])
async def test_open_paths_know_whom_they_talk_to(path: str) -> None:
    keys = Keys.of(settings(api_key="s3cret"))
    for authorization in (None, "Bearer wrong"):
        assert await enter(keys, authorization, path) == (None, None)
    caller, _ = await enter(keys, "Bearer s3cret", path)
    assert caller is not None


def test_metrics_are_open_unless_they_are_not() -> None:
    assert "/metrics" in open_paths(FrontendSettings())
    assert "/metrics" not in open_paths(FrontendSettings(metrics_open=False))


async def test_the_admin_key_is_a_key_of_its_own(keys_path: Path) -> None:
    keys = Keys.of(settings(api_key="s3cret", api_keys_file=keys_path, admin_key="master"))
    caller, _ = await enter(keys, "Bearer master")
    assert caller is not None
    assert caller.admin
    for other in ("s3cret", "alice-key"):
        caller, _ = await enter(keys, f"Bearer {other}")
        assert caller is not None
        assert not caller.admin


async def test_an_admin_key_alone_asks_nobody_for_a_key() -> None:
    keys = Keys.of(settings(admin_key="master"))
    anonymous, _ = await enter(keys, None)
    admin, _ = await enter(keys, "Bearer master")
    assert anonymous is not None
    assert admin is not None
    assert (anonymous.admin, admin.admin) == (False, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"api_key": ""}, "empty"),
        ({"admin_key": ""}, "empty"),
        ({"api_key": "same", "admin_key": "same"}, "the same as api_key"),
        ({"api_keys_file": Path("/nowhere/keys.toml")}, "cannot read"),
    ],
)
def test_settings_that_cannot_be_meant(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Keys.of(settings(**fields))
