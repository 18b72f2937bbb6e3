"""Send spans to an OpenTelemetry collector, where the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, …) name one.

Prefect makes a span of each run of a flow or task once there is a tracer provider. This one reads the variables and
imports OpenTelemetry's SDK only when the first tracer is asked for, so in the process that runs the flow: the thread
that sends does not survive a fork.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

SEND_WITHIN_SECONDS = 1.0
"""How long the end of a process may wait for the collector to take its last spans."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SENT = ("roas.", "prefect.", "error.type", "exception.type")
_TEXTS = frozenset({"prefect.state.message"})
_REFUSED = (
    "Traces are not sent: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed. "
    "Install roas-ops with the extra otel, or unset the variable.\n"
)


def offer_traces() -> None:
    """Let Prefect and this program get their tracers here, unless another provider was set before."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_Provider())


def is_enabled(variables: Mapping[str, str]) -> bool:
    """Whether the variables name a collector for traces, and none of them switches traces off."""
    off = variables.get("OTEL_SDK_DISABLED", "").lower() == "true" or variables.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(variables.get(name) for name in _ENDPOINTS)


class _Provider(trace.TracerProvider):
    """Gives tracers of the SDK in a process whose variables name a collector, else tracers that do nothing."""

    def __init__(self) -> None:
        self._made: tuple[int, trace.TracerProvider] | None = None
        self._lock = threading.Lock()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        """A tracer, as the base class says."""
        if not is_enabled(os.environ):
            return trace.NoOpTracer()
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), _make_provider())
        return self._made[1].get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )


def _make_provider() -> trace.TracerProvider:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter()
    except ImportError:
        sys.stderr.write(_REFUSED)
        return trace.NoOpTracerProvider()
    # What the SDK says of a collector that is away is said once, when the process ends.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    name_settings = (
        os.environ.get("OTEL_SERVICE_NAME"),
        "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""),
    )
    resource = {"service.version": version("roas-ops")} | ({} if any(name_settings) else {"service.name": "roas-ops"})
    provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_without_texts(exporter)))
    atexit.register(_send_the_rest, provider, os.getpid())
    return provider


def _exporter() -> SpanExporter:
    if _first(_PROTOCOLS) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _send_the_rest(provider: SdkTracerProvider, made_in: int) -> None:
    """Send the spans that wait, and give up after a second: a collector that is away must not keep a program."""
    if os.getpid() != made_in:
        return
    sent = threading.Event()

    def send() -> None:
        provider.force_flush()
        sent.set()

    threading.Thread(target=send, daemon=True).start()
    if not sent.wait(SEND_WITHIN_SECONDS):
        at = urlsplit(_first(_ENDPOINTS))
        # The rest of the address may hold a password.
        where = f"{at.hostname or at.path}{f':{at.port}' if at.port else ''}"
        sys.stderr.write(f"The collector at {where} did not take the last traces of this process.\n")


def _first(names: Sequence[str]) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _without_texts(exporter: SpanExporter) -> SpanExporter:
    """An exporter that sends names, ids and numbers, but no message of an error or state: one may hold a secret."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    def strip(span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=_spans_to_send(span.attributes),
            events=[Event(event.name, _spans_to_send(event.attributes), event.timestamp) for event in span.events],
            links=span.links,
            kind=span.kind,
            status=trace.Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    class WithoutTexts(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([strip(span) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return exporter.force_flush(timeout_millis)

    return WithoutTexts()


def _spans_to_send(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if name.startswith(_SENT) and name not in _TEXTS}
