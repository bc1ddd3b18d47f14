"""The keys file: what it may hold, and that a running server follows it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from frontend import keys_file
from frontend.caller import KeyLimits, digest_of, salt_of
from frontend.keys_file import MAX_KEYS, KeysFile, parse_entries
from gpt_oss_triton.errors import ConfigurationError

DIGEST = digest_of(b"alice's key")


def entry(name: str = "alice", **fields: str) -> str:
    given = {"name": f'"{name}"', "sha256": f'"{digest_of(name.encode()).hex()}"', **fields}
    return "\n".join(["[[key]]", *(f"{field} = {value}" for field, value in given.items()), ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_every_field(path: Path) -> None:
    path.write_text(
        entry(
            sha256=f'"{DIGEST.hex()}"',
            priority='"low"',
            requests_per_minute="60",
            tokens_per_minute="1000",
            concurrency="2",
            expires="2027-01-31",
            disabled="true",
        )
    )
    (key,) = KeysFile(path, "normal").keys
    assert key.digest == DIGEST
    assert key.disabled
    assert key.expires == datetime.datetime(2027, 1, 31, tzinfo=datetime.UTC).timestamp()
    assert key.caller.name == "alice"
    assert key.caller.priority == "low"
    assert key.caller.limits == KeyLimits(60, 1000, 2)
    assert key.caller.salt == salt_of(DIGEST)
    assert not key.caller.admin


def test_the_salt_is_the_keys_own_and_tells_nothing_of_its_hash() -> None:
    salt = salt_of(DIGEST)
    assert salt == salt_of(DIGEST)
    assert salt != salt_of(digest_of(b"another key"))
    assert DIGEST.hex()[:8] not in salt


def test_what_is_left_out_has_no_limit(path: Path) -> None:
    path.write_text(entry())
    (key,) = KeysFile(path, "low").keys
    assert key.caller.priority == "low"
    assert key.caller.limits == KeyLimits(None, None, None)
    assert key.expires is None
    assert not key.disabled


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-01-31T12:00:00Z", (2027, 1, 31, 12)),
        ("2027-01-31T12:00:00+02:00", (2027, 1, 31, 10)),
        ("2027-01-31T12:00:00", (2027, 1, 31, 12)),
    ],
)
def test_expiry_is_a_moment(path: Path, written: str, moment: tuple[int, int, int, int]) -> None:
    path.write_text(entry(expires=written))
    assert (
        KeysFile(path, "normal").keys[0].expires
        == datetime.datetime(*moment, tzinfo=datetime.UTC).timestamp()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[key]", "not TOML"),
        ("[key]\nname = 'a'", "two brackets"),
        ("key = [1]", "key number 1"),
        ("[[keys]]", "there is no 'keys'"),
        (entry(prioritty='"low"'), "key 'alice': there is no field 'prioritty'; did you mean 'priority'"),
        (entry(priority='"urgent"'), "key 'alice': priority"),
        (entry(requests_per_minute="0"), "key 'alice': requests_per_minute"),
        (entry(requests_per_minute='"60"'), "key 'alice': requests_per_minute"),
        (entry(concurrency="true"), "key 'alice': concurrency"),
        (entry(expires='"tomorrow"'), "key 'alice': expires"),
        (entry(disabled="1"), "key 'alice': disabled"),
        (entry(sha256='"sk-the-key-itself"'), "key 'alice': sha256"),
        ("[[key]]\nname = 'alice'", "key 'alice': sha256"),
        ("[[key]]\nsha256 = 'x'", "key number 1: name"),
        (entry("a b"), "key 'a b': name"),
        (entry("x" * 65), "name"),
        (entry("admin"), "the server's own"),
        (entry() + entry(sha256=f'"{DIGEST.hex()}"'), "same name"),
        (entry() + entry("bob", sha256=f'"{digest_of(b"alice").hex()}"'), "key 'bob': another key has the same sha256"),
        ("".join(entry(f"k{n}") for n in range(MAX_KEYS + 1)), f"more than {MAX_KEYS}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_entries(text)
    assert words in str(caught.value)
    assert "sk-the-key-itself" not in str(caught.value)


def test_a_file_that_cannot_be_used_stops_the_start(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the keys file"):
        KeysFile(path, "normal")
    path.write_bytes(b"# \xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        KeysFile(path, "normal")
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigurationError, match="longer than"):
        KeysFile(path, "normal")


def names(file: KeysFile) -> list[str]:
    return [key.caller.name for key in file.keys]


def test_a_change_is_taken_in(path: Path) -> None:
    path.write_text(entry())
    file = KeysFile(path, "normal")
    path.write_text(entry() + entry("bob"))
    assert names(file) == ["alice"]  # not before it was checked
    file.check()
    assert names(file) == ["alice", "bob"]
    successor = path.with_suffix(".new")  # as editors and mounted secrets replace a file
    successor.write_text(entry("carol"))
    successor.replace(path)
    file.check()
    assert names(file) == ["carol"]


def test_a_file_that_becomes_readable_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(entry())
    file = KeysFile(path, "normal")
    path.write_text(entry("bob"))
    with monkeypatch.context() as unreadable:
        unreadable.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
        file.check()
    assert names(file) == ["alice"]
    path.chmod(0o640)
    file.check()
    assert names(file) == ["bob"]


def test_a_broken_file_keeps_the_old_keys_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(entry())
    file = KeysFile(path, "normal")

    def errors() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]

    path.write_text(entry() + "[[key]")
    for _ in range(3):
        file.check()
    assert names(file) == ["alice"]
    assert len(errors()) == 1
    assert "not TOML" in errors()[0]
    path.unlink()
    for _ in range(3):
        file.check()
    assert names(file) == ["alice"]
    assert len(errors()) == 2
    path.write_text(entry("bob"))
    file.check()
    assert names(file) == ["bob"]


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.anyio
async def test_it_is_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    monkeypatch.setattr(keys_file, "CHECK_S", 0.01)
    write(path, entry())
    file = KeysFile(path, "normal")
    follower = asyncio.create_task(file.follow())
    write(path, entry("bob"))
    await until(lambda: names(file) == ["bob"])
    follower.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await follower
