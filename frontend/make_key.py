"""`scripts/make-key`: a new API key for one user, and its entry for the keys file."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, get_args

from frontend.caller import digest_of
from frontend.keys_file import parse_entries
from gpt_oss_triton.config import Priority
from gpt_oss_triton.errors import ConfigurationError

_KEY_BYTES = 32
_EPILOG = """\
The key is shown once and kept nowhere: the entry holds its SHA-256 only. A running server takes in a changed
file by itself, within a few seconds.

  scripts/make-key alice                         the entry to standard output, the key to standard error
  scripts/make-key batch --priority low --requests-per-minute 60 --file keys.toml
                                                 the entry into keys.toml, the key to standard output
  GPT_OSS_API_KEYS_FILE=keys.toml scripts/serve  serve those who have a key in that file
"""


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    options = vars(_parser().parse_args(argv))
    path: Path | None = options.pop("file")
    key = f"sk-gpt-oss-{secrets.token_urlsafe(_KEY_BYTES)}"
    entry = _entry({**options, "sha256": digest_of(key.encode()).hex()})
    try:
        if path is None:
            parse_entries(entry)
            print(entry, end="")  # noqa: T201 - its output
            print(f"The key, shown only now: {key}", file=sys.stderr)  # noqa: T201
        else:
            _append(path, entry)
            print(f"added {options['name']} to {path}; the key, shown only now:", file=sys.stderr)  # noqa: T201
            print(key)  # noqa: T201
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/make-key",
        description="Make an API key, and the entry that lets it in.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="whose key it is, for logs: letters, digits and . _ -")
    add("--priority", choices=get_args(Priority), help="of its requests (the server's default_priority)")
    add("--requests-per-minute", type=int, metavar="N", help="no limit by default")
    add("--tokens-per-minute", type=int, metavar="N", help="of prompts and answers together")
    add("--concurrency", type=int, metavar="N", help="requests at once")
    add("--expires", type=datetime.date.fromisoformat, metavar="YYYY-MM-DD", help="good until that day (UTC)")
    add("--file", type=Path, metavar="FILE", help="append the entry there; made if need be")
    return parser


def _entry(fields: dict[str, Any]) -> str:
    """One `[[key]]`. TOML writes strings as JSON does, numbers and days bare."""
    lines = [
        f"{name} = {json.dumps(value) if isinstance(value, str) else value}"
        for name, value in fields.items()
        if value is not None
    ]
    return "\n".join(["[[key]]", *lines, ""])


def _append(path: Path, entry: str) -> None:
    """Raises ConfigurationError, with the file as it was, when the result would be no good keys file."""
    try:
        before = path.read_text() if path.exists() else ""
        addition = f"\n{entry}" if before.endswith("\n") or not before else f"\n\n{entry}"
        parse_entries(before + addition)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "w") as file:  # noqa: PTH123 - made for its owner alone
            file.write(addition if before else entry)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot add to {path}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
