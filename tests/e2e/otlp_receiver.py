"""A collector that keeps what it gets: OTLP/HTTP in protobuf or JSON, on a free loopback port."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OtlpReceiver:
    """Use as a context manager.

    Attributes:
        url: for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: all that came, in order.
        headers: of each request that came, with lower-case names.
        services: `service.name` of each resource that sent spans.
        status: what requests are answered with.
    """

    def __init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._receive(self.path, dict(self.headers.items()), body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(receiver.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.services: set[str] = set()
        self.status = 200
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace_ids(self) -> set[str]:
        with self._lock:
            return {span.trace_id.hex() for span in self.spans}

    def trace(self, trace_id: str) -> list[Span]:
        with self._lock:
            return [span for span in self.spans if span.trace_id.hex() == trace_id]

    def _receive(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert path == "/v1/traces", path
        headers = {name.lower(): value for name, value in headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        as_json = headers["content-type"].startswith("application/json")
        request = _of_json(body) if as_json else ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.headers.append(headers)
            if self.status != 200:
                return
            for resource in request.resource_spans:
                self.services.add(str(attributes(resource.resource.attributes).get("service.name")))
                for scope in resource.scope_spans:
                    self.spans += scope.spans


def _of_json(body: bytes) -> ExportTraceServiceRequest:
    """OTLP writes ids in hex, where protobuf's own JSON has base64."""

    def of_object(fields: dict[str, Any]) -> dict[str, Any]:
        ids = fields.keys() & {"traceId", "spanId", "parentSpanId"}
        return {**fields, **{name: base64.b64encode(bytes.fromhex(fields[name])).decode() for name in ids}}

    record = json.loads(body, object_hook=of_object)
    return json_format.ParseDict(record, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    """A span's or a resource's attributes as a plain dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)
