"""Where traces go, by OpenTelemetry's own variables."""

from __future__ import annotations

import logging

import pytest

from gpt_oss_triton.telemetry import otlp

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        (BASE, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/traces"),
        ({**BASE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}, "http://t/x"),
        ({**BASE, "OTEL_SDK_DISABLED": "True"}, None),
        ({**BASE, "OTEL_SDK_DISABLED": "false"}, "http://collector:4318/v1/traces"),
        ({**BASE, "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_url(environment: dict[str, str], url: str | None) -> None:
    assert otlp.traces_url(environment) == url


def test_another_protocol_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        otlp.warn_of_protocol(BASE)
        otlp.warn_of_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
        assert caplog.records == []
        otlp.warn_of_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "grpc" in caplog.text


def test_header_values_are_secrets() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=abc%20d, other=e=f",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer x",
    }
    assert otlp.header_secrets(environment) == ["abc%20d", "e=f", "Bearer x"]
    assert otlp.header_secrets({}) == []
