"""Ids that a store gives to series, and what it refuses, by statements of its driver: no table is mapped for it."""

# ruff: noqa: S608 - the statements are made of marks for values

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

log = logging.getLogger("roas")

SERIES_LIMIT = 10_000
"""Most series an environment may have: a name with a changing part in it would fill any disk."""

SeriesKey = tuple[str, str, str]
"""Environment, service and metric."""


def series_ids_by(run: Callable[..., Any], mark: str, series_keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
    """As `series_ids`; `run` executes a statement of the driver in a transaction, `mark` stands for a value in it.

    The ids hold in that transaction only: the next may find another store in the place of this one.
    """
    by_environment: dict[str, set[SeriesKey]] = {}
    for key in series_keys:
        by_environment.setdefault(key[0], set()).add(key)
    ids: dict[SeriesKey, int] = {}
    for environment, keys in by_environment.items():
        ids_by_key = _known_series(run, mark, environment)
        fresh = sorted(keys - ids_by_key.keys())
        room = max(0, SERIES_LIMIT - len(ids_by_key))
        if new := fresh[:room]:
            values = ", ".join([f"({mark}, {mark}, {mark})"] * len(new))
            run(
                f"INSERT INTO metric_series (environment, service, metric) VALUES {values} ON CONFLICT DO NOTHING",
                tuple(text for key in new for text in key),
            )
            ids_by_key = _known_series(run, mark, environment)
        _refuse(run, mark, environment, fresh[room:])
        ids |= {key: ids_by_key[key] for key in keys if key in ids_by_key}
    return ids


def _known_series(run: Callable[..., Any], mark: str, environment: str) -> dict[SeriesKey, int]:
    query = f"SELECT service, metric, id FROM metric_series WHERE environment = {mark}"
    return {
        (environment, service, metric): series_id
        for service, metric, series_id in run(query, (environment,)).fetchall()
    }


def _refuse(run: Callable[..., Any], mark: str, environment: str, keys: Sequence[SeriesKey]) -> None:
    if not keys:
        return
    refused = ("metric_series", f"environment {environment} has {SERIES_LIMIT} series already")
    query = f"SELECT 1 FROM dead_letters WHERE target = {mark} AND reason = {mark} LIMIT 1"
    if run(query, refused).fetchone():
        return
    log.warning("%d new metrics refused: %s; the first is %s", len(keys), refused[1], "/".join(keys[0]))
    bury(run, mark, *refused, {"series": ["/".join(key) for key in keys[:100]]})


def bury(run: Callable[..., Any], mark: str, target: str, reason: str, payload: object) -> None:
    """Keep what a store refused, with the reason; `run` executes a statement, `mark` stands for a value in it."""
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    run(
        f"INSERT INTO dead_letters (buried_at, target, reason, payload) VALUES ({', '.join([mark] * 4)})",
        (at, target, reason, to_json(payload).decode()),
    )
