"""Name the rows of the record that a value was read from, and shorten a value for a reader with limited room."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from models.agents import RowReference
from models.errors import RecordedError
from models.evidence import EvidenceBundle
from models.metrics import Alert, Prediction
from models.operations import Operation
from models.postmortem import TimelineEntry
from models.records import Explanation, Release
from models.recovery import RecoveryExecution, Ticket

_TABLES: Mapping[type[Any], tuple[str, str, str]] = {
    Operation: ("deployment_logs", "deployment_operations", "deployment_id"),
    Explanation: ("deployment_logs", "deployment_operations", "deployment_id"),
    Release: ("deployment_logs", "releases", "release_id"),
    RecordedError: ("errors", "deployment_errors", "error_id"),
    RecoveryExecution: ("errors", "auto_recovery_executions", "attempt_id"),
    Ticket: ("errors", "manual_intervention_tickets", "ticket_id"),
    EvidenceBundle: ("errors", "evidence_bundles", "bundle_id"),
    Alert: ("monitoring", "alerts", "alert_id"),
    Prediction: ("monitoring", "predictions", "prediction_id"),
}
"""Store, table and the field with the row's id, by the value that is made from it."""

_STORE_OF_TABLE = {table: store for store, table, _ in _TABLES.values()} | {
    "service_state_changes": "deployment_logs",
    "ticket_history": "errors",
}

_BOUNDS = ((4000, 200), (1000, 100), (300, 50), (120, 20), (60, 8))
"""Longest text in characters and longest list, tried one after the other until a value fits."""


def cited_rows(value: object) -> tuple[RowReference, ...]:
    """The rows that a value and all values in it were read from, each once, in the order of their first mention."""
    return tuple(dict.fromkeys(_rows(value)))


def shorten_document(document: Any, most_bytes: int, size: Any) -> tuple[Any, bool]:
    """Shorten long texts and lists of a JSON document until `size(document)` is at most `most_bytes`.

    Returns the document and whether anything is missing. Text keeps its beginning and its end, a list its first items.
    One that is still larger with the tightest bounds is returned as it is with these.
    """
    if size(document) <= most_bytes:
        return document, False
    shortened = document
    for longest, most in _BOUNDS:
        shortened = _shorten(document, longest, most)
        if size(shortened) <= most_bytes:
            break
    return shortened, True


def _rows(value: object) -> Iterator[RowReference]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        location = _TABLES.get(type(value))
        if location is not None:
            store, table, field = location
            row = getattr(value, field)
            if row:
                yield RowReference(store=store, table=table, id=str(row))
        if isinstance(value, Explanation):
            for bundle in value.evidence:
                yield RowReference(store="errors", table="evidence_bundles", id=bundle)
        if isinstance(value, TimelineEntry) and value.source in _STORE_OF_TABLE:
            yield RowReference(store=_STORE_OF_TABLE[value.source], table=value.source, id=value.row)
        for attribute in dataclasses.fields(value):
            yield from _rows(getattr(value, attribute.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _rows(item)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            yield from _rows(item)


def _shorten(value: Any, longest: int, most: int) -> Any:
    if isinstance(value, str):
        return _shorten_text(value, longest)
    if isinstance(value, Mapping):
        return {key: _shorten(item, longest, most) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_shorten(item, longest, most) for item in value[:most]]
    return value


def _shorten_text(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    mark = f" ... {len(text):,} characters, shortened ... "
    half = max(0, longest - len(mark)) // 2
    return f"{text[:half]}{mark}{text[len(text) - half :]}"
