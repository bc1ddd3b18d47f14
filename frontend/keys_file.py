"""The file of API keys: TOML that holds each key's hash, its owner's name and limits, and never a key.

::

    [[key]]
    name = "batch-jobs"
    sha256 = "…64 hexadecimal digits…"
    priority = "low"                # high, normal or low; optional, as all that follow
    requests_per_minute = 600
    tokens_per_minute = 100000
    concurrency = 8
    expires = 2027-01-31            # a moment, or a day: its first in UTC
    disabled = true

`scripts/make-key` writes such entries.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from frontend.caller import ANONYMOUS, Caller, Key, KeyLimits, salt_of
from gpt_oss_triton.config import Positive, Priority, did_you_mean
from gpt_oss_triton.errors import ConfigurationError

log = logging.getLogger(__name__)

CHECK_S = 2.0
MAX_KEYS = 1000  # each request is compared with all of them
_MAX_BYTES = 1 << 20
RESERVED = frozenset({ANONYMOUS, "default", "admin"})  # callers that no file names


class KeyEntry(BaseModel):
    """One `[[key]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    priority: Priority | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Positive | None = None
    expires: datetime.datetime | None = None
    disabled: bool = False

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError("this name is the server's own")
        return name

    @field_validator("expires", mode="before")
    @classmethod
    def _in_utc(cls, value: Any) -> Any:
        if isinstance(value, datetime.datetime):
            return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        if isinstance(value, datetime.date):
            return datetime.datetime.combine(value, datetime.time(), datetime.UTC)
        return value

    def key(self, default_priority: Priority) -> Key:
        limits = KeyLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        digest = bytes.fromhex(self.sha256)
        caller = Caller(self.name, self.priority or default_priority, limits, salt_of(digest))
        expires = None if self.expires is None else self.expires.timestamp()
        return Key(digest, caller, expires, self.disabled)


def parse_entries(text: str) -> list[KeyEntry]:
    """The entries of a keys file.

    Raises:
        ConfigurationError: what is wrong, and in which entry.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError("not TOML that we read: its brackets nest too deeply") from None
    if unknown := sorted(content.keys() - {"key"}):
        raise ConfigurationError(f"there is no {unknown[0]!r} here; each key is a table [[key]]")
    tables = content.get("key", [])
    if not isinstance(tables, list):
        raise ConfigurationError("each key is a table [[key]], in two brackets")
    if len(tables) > MAX_KEYS:
        raise ConfigurationError(f"{len(tables)} keys are more than {MAX_KEYS}")
    entries = [_entry(table, number) for number, table in enumerate(tables, 1)]
    for field in ("name", "sha256"):
        seen: set[str] = set()
        for entry in entries:
            if getattr(entry, field) in seen:
                raise ConfigurationError(f"key {entry.name!r}: another key has the same {field}")
            seen.add(getattr(entry, field))
    return entries


def _entry(table: Any, number: int) -> KeyEntry:
    name = table.get("name") if isinstance(table, dict) else None
    which = f"key {name[:64]!r}" if isinstance(name, str) else f"key number {number}"
    try:
        return KeyEntry.model_validate(table)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            hint = did_you_mean(field, set(KeyEntry.model_fields))
            raise ConfigurationError(f"{which}: there is no field {field!r}{hint}") from None
        raise ConfigurationError(f"{which}: {field}: {fault['msg']}") from None


class KeysFile:
    """The keys of one file as they are now, or were when the file was last whole.

    Raises:
        ConfigurationError: it cannot be used as it is at the start.
    """

    def __init__(self, path: Path, default_priority: Priority) -> None:
        self._path = path
        self._default_priority = default_priority
        self._seen = self._version()
        self.keys = self._read()

    async def follow(self) -> None:
        """Take in every change until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await asyncio.to_thread(self.check)  # the file may lie on a slow disk
            except Exception:  # the task's boundary: keys that are revoked later must still go
                log.exception("the keys file could not be looked at")

    def check(self) -> None:
        """Read the file again if it has changed. A broken one changes nothing and is logged once."""
        version = self._version()
        if version == self._seen:
            return
        self._seen = version
        try:
            self.keys = self._read()
        except ConfigurationError as error:
            log.error("%s; the %d keys from before stay", error, len(self.keys))
        else:
            log.info("read %d API keys from %s", len(self.keys), self._path)

    def _version(self) -> tuple[int, int, int] | None:
        """What differs between two contents of the file, and when it has become readable; None without a file."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ctime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[Key, ...]:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise ConfigurationError(f"it is longer than {_MAX_BYTES} bytes")
            return tuple(entry.key(self._default_priority) for entry in parse_entries(content.decode()))
        except OSError as error:
            raise ConfigurationError(f"cannot read the keys file {self._path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the keys file {self._path} is not UTF-8") from None
        except ConfigurationError as error:
            raise ConfigurationError(f"the keys file {self._path}: {error}") from None
