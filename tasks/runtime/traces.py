"""Spans of what Prefect makes none of, and attributes for its own. Without a collector nothing here does anything.

Attributes are names, ids, words of ours and numbers, never a text that may hold a secret.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from adapters.traces import offer_traces

Value = str | bool | int | float | None

_NS = 1_000_000_000
_CARRIER = "traceparent"

offer_traces()


def describe_span(**attributes: Value) -> None:
    """Add attributes to the current span: that of the flow or task that runs, or one of `span`. None adds nothing."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attributes(_attributes_of(attributes))


@contextmanager
def span(name: str, **attributes: Value) -> Iterator[None]:
    """A span around the body, below the current one; it ends as an error where the body raises."""
    with _trace_call(_tracer().start_span(name, attributes=_attributes_of(attributes))):
        yield


@contextmanager
def separate_trace(name: str, **attributes: Value) -> Iterator[None]:
    """A trace of its own around the body, with a link to the span from which it is begun."""
    begun_from = trace.get_current_span().get_span_context()
    with _trace_call(_tracer().start_span(name, Context(), attributes=_attributes_of(attributes))):
        _link("run", begun_from)
        yield


def link_span(what: str, parent: str | None) -> None:
    """Link the current span to another one, by its `traceparent` and what it is; None adds nothing."""
    if parent:
        _link(what, trace.get_current_span(propagate.extract({_CARRIER: parent})).get_span_context())


@contextmanager
def pause_tracing() -> Iterator[None]:
    """Make no spans in the body but those of separate traces: for runs of many hours that mostly find nothing."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        yield
        return
    unsampled = trace.SpanContext(current.trace_id, current.span_id, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        yield


def record_wait(name: str, seconds: float, **attributes: Value) -> None:
    """Record a span that ends now and began some seconds ago, below the current one."""
    now = time.time_ns()
    began = now - round(seconds * _NS)
    _tracer().start_span(name, attributes=_attributes_of(attributes), start_time=began).end(now)


def traceparent() -> str | None:
    """The current span, as `link_span` can link to it later; None without traces."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().is_recording():
        propagate.inject(carrier)
    return carrier.get(_CARRIER)


def _tracer() -> trace.Tracer:
    return trace.get_tracer("roas")


@contextmanager
def _trace_call(new_span: trace.Span) -> Iterator[None]:
    with trace.use_span(new_span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            new_span.set_status(trace.StatusCode.ERROR)
            new_span.set_attribute("error.type", type(error).__name__)
            raise


def _attributes_of(attributes: Mapping[str, Value]) -> dict[str, str | bool | int | float]:
    return {f"roas.{name}": value for name, value in attributes.items() if value is not None}


def _link(what: str, to: trace.SpanContext) -> None:
    if to.is_valid and to.trace_flags.sampled:
        trace.get_current_span().add_link(to, {"roas.link": what})
