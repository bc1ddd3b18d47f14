"""One log record as one line: JSON, or text for people. Known secrets are masked last."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict

from gpt_oss_triton.telemetry.redaction import redact


def line_formatter(*, as_json: bool, colors: bool = False) -> logging.Formatter:
    """For records that `LogOutput.prepare` made."""
    if as_json:
        return ProcessorFormatter(
            foreign_pre_chain=[_as_event],
            processors=[_json_fields, structlog.processors.JSONRenderer(serializer=_to_json), _masked],
        )
    console = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)
    return ProcessorFormatter(processors=[_console_fields, console, _masked])


def _as_event(logger: Any, method: str, event: EventDict) -> EventDict:
    """A plain record's kind of event, and its text as `message`."""
    kind = "error" if event["_record"].levelno >= logging.ERROR else "log"
    return {**event, "event": kind, "message": event["event"]}


def _json_fields(logger: Any, method: str, event: EventDict) -> EventDict:
    record = event.pop("_record")
    del event["_from_structlog"]
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": event.pop("event"),
        "logger": record.name,
        **record.context,
        **event,
    }
    if record.exception:
        fields["exception"] = record.exception
    return fields


def _console_fields(logger: Any, method: str, event: EventDict) -> EventDict:
    record = event.pop("_record")
    del event["_from_structlog"]
    fields = {
        "timestamp": datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")[:-6],
        "level": record.levelname.lower(),
        "logger": record.name,
        **record.context,
        **event,
    }
    if record.exception:
        fields["exception"] = record.exception
    return fields


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _masked(logger: Any, method: str, line: Any) -> str:
    return redact(line)
