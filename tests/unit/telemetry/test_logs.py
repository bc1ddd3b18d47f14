"""One line for each record, nobody who reads the log holds up a request, and no secret gets into it."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry import logs
from gpt_oss_triton.telemetry.log_lines import line_formatter
from gpt_oss_triton.telemetry.logs import LogOutput
from gpt_oss_triton.telemetry.redaction import hide


class StuckStream(io.StringIO):
    """A pipe that nobody reads until `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.free = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.free.wait(60)
        return super().write(text)


def json_output(stream: io.StringIO) -> LogOutput:
    return LogOutput(line_formatter(as_json=True), stream)


def logger_to(output: LogOutput) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(output)
    return logger


def written(log: Callable[[logging.Logger], None], *, as_json: bool = True) -> str:
    """What comes out of a logger."""
    stream = io.StringIO()
    output = LogOutput(line_formatter(as_json=as_json), stream)
    log(logger_to(output))
    output.finish()
    return stream.getvalue()


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------------------------ lines


def test_a_plain_record_as_json() -> None:
    (line,) = records(written(lambda log: log.info("hello %s", "you")))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "event": "log", "logger": "test", "message": "hello you"}


def test_an_error_keeps_its_stack() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError("oh")
        except ValueError:
            log.exception("it failed")

    (line,) = records(written(fail))
    assert line["event"] == "error"
    assert "ValueError: oh" in line["exception"]
    console = written(fail, as_json=False)
    assert "it failed" in console
    assert "ValueError: oh" in console


def test_line_breaks_and_long_texts() -> None:
    text = written(lambda log: log.info("two\nlines " + "x" * 100_000))
    assert text.count("\n") == 1
    assert len(text) < 10_000


def test_the_requests_ids_are_in_every_line_of_it() -> None:
    def log_within(log: logging.Logger) -> None:
        with structlog.contextvars.bound_contextvars(trace_id="t", request_id="r"):
            log.info("inside")
        log.info("outside")

    inside, outside = records(written(log_within))
    assert (inside["trace_id"], inside["request_id"]) == ("t", "r")
    assert "trace_id" not in outside
    assert "request_id=r" in written(log_within, as_json=False).splitlines()[0]


def test_for_people() -> None:
    line = written(lambda log: log.warning("watch out"), as_json=False)
    assert "watch out" in line
    assert "warning" in line
    assert "\x1b" not in line  # colours are for terminals


def test_what_json_cannot_hold_is_written_as_text() -> None:
    def log_event(log: logging.Logger) -> None:
        event = {"event": "odd", "value": {1, 2}.__class__}
        log.info(event, extra={"_logger": log, "_name": "info"})

    assert records(written(log_event))[0]["value"] == "<class 'set'>"


def test_a_hidden_secret_is_masked() -> None:
    hide("planted-s3cret")
    for as_json in (True, False):
        text = written(lambda log: log.info("the key is %s", "planted-s3cret"), as_json=as_json)
        assert "planted" not in text
        assert "[hidden]" in text


# ---------------------------------------------------------------------------------------------- bounds


def test_records_come_out_in_order() -> None:
    def count(log: logging.Logger) -> None:
        for n in range(5):
            log.info("line %d", n)

    assert [line["message"] for line in records(written(count))] == [f"line {n}" for n in range(5)]


def test_a_stuck_reader_costs_records_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 10)
    stream = StuckStream()
    output = json_output(stream)
    logger = logger_to(output)
    logger.info("first")
    assert stream.reached.wait(60)
    for n in range(25):
        logger.info("line %d", n)  # returns although nobody reads
    assert output.dropped == 15
    assert len(output.recent_lines()) == 26  # those in memory are all there
    stream.free.set()
    while not output.queue.empty():
        pass
    logger.info("after")
    output.finish()
    lines = records(stream.getvalue())
    assert "15 log records were dropped" in lines[-2]["message"]
    assert lines[-1]["message"] == "after"


def test_the_newest_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    output = json_output(io.StringIO())
    for n in range(logs.MAX_KEPT + 50):
        logger_to(output).info("line %d", n)
    lines = [json.loads(line)["message"] for line in output.recent_lines()]
    assert (len(lines), lines[0], lines[-1]) == (logs.MAX_KEPT, "line 50", f"line {logs.MAX_KEPT + 49}")
    monkeypatch.setattr(logs, "MAX_KEPT_BYTES", 50_000)
    for _ in range(100):
        logger_to(output).info("x" * 5000)
    assert 5 < len(output.recent_lines()) < 12
    output.finish()


def test_no_record_keeps_a_requests_objects() -> None:
    """A stack's frames would hold prompts in memory as long as the line is kept."""
    output = json_output(io.StringIO())
    try:
        raise ValueError("oh")
    except ValueError:
        logger_to(output).exception("%s", object())
    ((record, _),) = output._kept
    assert record.exc_info is None
    assert record.args is None
    output.finish()


# ------------------------------------------------------------------------------------------ the process


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level, raising = logger.handlers[:], logger.level, logging.raiseExceptions
    logger.handlers.clear()
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.raiseExceptions = raising


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("log_format", "stream", "as_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_the_format(root: logging.Logger, log_format: Any, stream: io.StringIO, as_json: bool) -> None:
    output = logs.start_logging(FrontendSettings(log_format=log_format), stream)
    logging.getLogger("some.module").info("hello")
    output.finish()
    assert stream.getvalue().startswith("{") == as_json
    assert "hello" in stream.getvalue()


def test_the_level_can_change(root: logging.Logger) -> None:
    output = logs.start_logging(FrontendSettings(log_level="warning"), io.StringIO())
    log = logging.getLogger("some.module")
    log.info("unheard")
    logs.set_level("debug")
    log.debug("heard")
    logging.getLogger("urllib3.connectionpool").debug("not this")
    assert [json.loads(line)["message"] for line in logs.recent_lines()] == ["heard"]
    output.finish()


def test_no_output_no_lines(root: logging.Logger) -> None:
    assert logs.recent_lines() == []


def test_the_settings_secrets_are_hidden(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=c0llector-key")
    planted = ["the-api-key", "the-admin-key", "the-control-key", "c0llector-key"]
    settings = FrontendSettings(
        api_key=SecretStr(planted[0]),
        admin_key=SecretStr(planted[1]),
        triton_control_key=SecretStr(planted[2]),
    )
    stream = io.StringIO()
    output = logs.start_logging(settings, stream)
    for secret in planted:
        logging.getLogger("some.module").error("a library says %r", secret)
    output.finish()
    for secret in planted:
        assert secret not in stream.getvalue() + "".join(logs.recent_lines())
    assert stream.getvalue().count("[hidden]") == len(planted)
