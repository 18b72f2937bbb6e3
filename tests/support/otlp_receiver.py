"""A stand-in for an OpenTelemetry collector: it takes traces by OTLP over HTTP and keeps their spans."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span as it was sent; ids are hexadecimal, `seconds` is how long it took."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    scope: str
    attributes: dict[str, Any]
    events: tuple[tuple[str, dict[str, Any]], ...]
    links: tuple[tuple[str, str, dict[str, Any]], ...]
    """Trace, span and attributes of each."""
    failed: bool
    message: str
    seconds: float
    resource: dict[str, Any]


@dataclass(slots=True)
class Received:
    """All spans so far, and all requests as they were sent."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def named(self, name: str) -> ReceivedSpan:
        """The one span of that name."""
        [found] = [one for one in self.spans if one.name == name]
        return found

    def wait_for(self, name: str) -> ReceivedSpan:
        """The first span of that name, once it has arrived."""
        deadline = time.monotonic() + 300
        while True:
            for one in [*self.spans]:
                if one.name == name:
                    return one
            assert time.monotonic() < deadline, (name, [one.name for one in self.spans])
            time.sleep(0.05)


@contextmanager
def otlp_receiver() -> Iterator[Received]:
    """A running receiver."""
    received = Received()

    class ReceiverHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.bodies.append(body)
            received.spans += _spans(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), ReceiverHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    scope=scope.scope.name,
                    attributes=_values(span.attributes),
                    events=tuple((one.name, _values(one.attributes)) for one in span.events),
                    links=tuple((one.trace_id.hex(), one.span_id.hex(), _values(one.attributes)) for one in span.links),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    message=span.status.message,
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    resource=_values(resource.resource.attributes),
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes}
