"""Where traces go, from OpenTelemetry's own environment variables. Imports nothing of OpenTelemetry: the
launcher asks as well, and a server without traces should not pay for the library."""

from __future__ import annotations

import logging
from collections.abc import Mapping

log = logging.getLogger(__name__)

DEFAULT_SERVICE = "gpt-oss-triton"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def traces_url(environment: Mapping[str, str]) -> str | None:
    """The URL that takes spans over OTLP/HTTP; None when nobody asked for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    if url := environment.get(_TRACES_ENDPOINT, "").strip():
        return url
    if base := environment.get(_ENDPOINT, "").strip():
        return f"{base.removesuffix('/')}/v1/traces"
    return None


def warn_of_protocol(environment: Mapping[str, str]) -> None:
    """Say that another protocol than ours is configured."""
    protocol = next((p for name in _PROTOCOLS if (p := environment.get(name, "").strip())), "http/protobuf")
    if protocol != "http/protobuf":
        log.warning("traces are exported as http/protobuf, not as OTEL_EXPORTER_OTLP_PROTOCOL's %s", protocol)


def header_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values of the headers that the exporter sends: often a collector's key."""
    pairs = [pair for name in _HEADERS for pair in environment.get(name, "").split(",")]
    return [value for pair in pairs if (value := pair.partition("=")[2].strip())]
