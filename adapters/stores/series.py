"""Ids that a store gives to series, and what it refuses, by statements of its driver: no table is mapped for it."""

# ruff: noqa: S608 - the statements are made of marks for values

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from pydantic_core import to_json

from adapters.stores.sql import run_text

log = logging.getLogger("roas")

SERIES_LIMIT = 10_000
"""Most series an environment may have: a name with a changing part in it would fill any disk."""

SeriesKey = tuple[str, str, str]
"""Environment, service and metric."""


def series_ids(connection: sa.Connection, series_keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
    """The ids of series (environment, service, metric), made where they are new and the limit allows.

    The ids hold in this transaction only: the next may find another store in the place of this one.
    """
    by_environment: dict[str, set[SeriesKey]] = {}
    for key in series_keys:
        by_environment.setdefault(key[0], set()).add(key)
    ids: dict[SeriesKey, int] = {}
    for environment, keys in by_environment.items():
        ids_by_key = _known_series(connection, environment)
        fresh = sorted(keys - ids_by_key.keys())
        room = max(0, SERIES_LIMIT - len(ids_by_key))
        if new := fresh[:room]:
            values = ", ".join(["(?, ?, ?)"] * len(new))
            insertion = f"INSERT INTO metric_series (environment, service, metric) VALUES {values}"
            run_text(connection, f"{insertion} ON CONFLICT DO NOTHING", *(text for key in new for text in key))
            ids_by_key = _known_series(connection, environment)
        _refuse(connection, environment, fresh[room:])
        ids |= {key: ids_by_key[key] for key in keys if key in ids_by_key}
    return ids


def _known_series(connection: sa.Connection, environment: str) -> dict[SeriesKey, int]:
    query = "SELECT service, metric, id FROM metric_series WHERE environment = ?"
    return {(environment, row.service, row.metric): row.id for row in run_text(connection, query, environment).all()}


def _refuse(connection: sa.Connection, environment: str, keys: Sequence[SeriesKey]) -> None:
    if not keys:
        return
    refused = ("metric_series", f"environment {environment} has {SERIES_LIMIT} series already")
    if run_text(connection, "SELECT 1 FROM dead_letters WHERE target = ? AND reason = ? LIMIT 1", *refused).first():
        return
    log.warning("%d new metrics refused: %s; the first is %s", len(keys), refused[1], "/".join(keys[0]))
    bury(connection, *refused, {"series": ["/".join(key) for key in keys[:100]]})


def bury(connection: sa.Connection, target: str, reason: str, payload: object) -> None:
    """Keep what a store refused, with the reason, unless it was refused before."""
    text = to_json(payload).decode()
    if run_text(
        connection, "SELECT 1 FROM dead_letters WHERE target = ? AND payload = ? LIMIT 1", target, text
    ).first():
        return
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    insertion = "INSERT INTO dead_letters (buried_at, target, reason, payload) VALUES (?, ?, ?, ?)"
    run_text(connection, insertion, at, target, reason, text)
