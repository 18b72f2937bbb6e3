"""Metric families, and counters of rows in a store that are added, finished and later archived."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

DURATIONS_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)
"""Upper bounds of the histogram's buckets; one more bucket counts longer durations."""

_CHUNK = 500
_MS = 1000

Labels = tuple[str, ...]
Samples = Iterable[tuple[Sequence[str], float]]
"""Label values, in the order of a family's labels, with a value."""


def gauge(name: str, about: str, *labels: str, samples: Samples = ()) -> GaugeMetricFamily:
    """A gauge family with its samples."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def counter(name: str, about: str, *labels: str, samples: Samples = ()) -> CounterMetricFamily:
    """A counter family with its samples; Prometheus's client appends `_total` to its name."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def one_value(name: str, about: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, about, value=value)


def full_gauge(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Any, int], *values: Iterable[str]
) -> GaugeMetricFamily:
    """A gauge of counts for every combination of label values, with 0 for those without a count."""
    return gauge(name, about, *labels, samples=((kind, counts.get(kind, 0)) for kind in product(*values)))


def durations(
    name: str, about: str, labels: Sequence[str], counts: Mapping[Labels, Count], kinds: Iterable[Labels] | None = None
) -> HistogramMetricFamily:
    """A histogram of durations for each of `kinds`, with 0 for those without a count, or for each with a count."""
    family = HistogramMetricFamily(name, about, labels=labels)
    for kind in sorted(counts) if kinds is None else kinds:
        count = counts.get(kind) or Count()
        family.add_metric(kind, _buckets(count.by_duration), count.seconds)
    return family


def _buckets(by_duration: Sequence[int]) -> list[tuple[str, float]]:
    ends = (*map(str, DURATIONS_SECONDS), "+Inf")
    return list(zip(ends, map(float, accumulate(by_duration)), strict=True))


@dataclass(slots=True)
class Count:
    """Rows of one kind. `by_duration` has a bucket for each of DURATIONS_SECONDS; rows without a duration have none."""

    rows: int = 0
    seconds: float = 0.0
    by_duration: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS_SECONDS) + 1))


class RowCounter:
    """Counts each row once, when it is finished; archiving rows later does not reduce the counts.

    Only the first `catch_up` reads the whole table, later ones only new rows. A new counter starts with the existing
    rows, so after a restart it lacks archived ones. Not thread-safe.
    """

    def __init__(
        self,
        source: sa.FromClause,
        identity: sa.ColumnElement[int],
        *,
        kinds: Sequence[sa.ColumnElement[Any]],
        unfinished: sa.ColumnElement[bool],
        duration_ms: sa.ColumnElement[Any] | None = None,
    ) -> None:
        """Count the rows of `source` by `kinds`; `identity` must grow from row to row."""
        self.counts: defaultdict[tuple[Any, ...], Count] = defaultdict(Count)
        """Counts by the values of `kinds`."""
        self.unfinished: list[tuple[Any, ...]] = []
        """The kind of each unfinished row."""
        self._source = source
        self._identity = identity
        self._kinds = kinds
        self._unfinished = unfinished
        self._duration_ms = sa.cast(sa.null(), sa.Integer) if duration_ms is None else duration_ms
        self._seen = 0
        self._waiting: set[int] = set()

    def catch_up(self, connection: sa.Connection) -> None:
        """Count rows finished since the last call, in one transaction."""
        newest = connection.scalar(sa.select(sa.func.max(self._identity)).select_from(self._source)) or 0
        if newest < self._seen:
            # The store was created again: none of its rows has been counted.
            self._seen, self._waiting = 0, set()
        open_rows = connection.execute(
            sa.select(self._identity, *self._kinds).select_from(self._source).where(self._unfinished)
        ).all()
        still_open = {row[0] for row in open_rows}
        self.unfinished = [tuple(row[1:]) for row in open_rows]
        finished = sorted(self._waiting - still_open)
        chunks = [finished[start : start + _CHUNK] for start in range(0, len(finished), _CHUNK)]
        news = self._read(connection, sa.and_(self._identity > self._seen, self._identity <= newest))
        for chunk in chunks:
            news += self._read(connection, self._identity.in_(chunk))
        # Only after all reads: rows counted before a failure would be counted twice.
        for *kinds, duration_class, rows, total_ms in news:
            count = self.counts[tuple(kinds)]
            count.rows += rows
            if duration_class is not None:
                count.by_duration[duration_class] += rows
                count.seconds += float(total_ms) / _MS
        self._seen, self._waiting = newest, still_open

    def _read(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Sequence[Any]]:
        query = (
            sa.select(
                *self._kinds,
                self._class().label("class"),
                sa.func.count().label("rows"),
                sa.func.sum(self._duration_ms).label("total_ms"),
            )
            .select_from(self._source)
            .where(which, sa.not_(self._unfinished))
            .group_by(*self._kinds, sa.literal_column("class"))
        )
        return list(connection.execute(query))

    def _class(self) -> sa.ColumnElement[Any]:
        within = [(self._duration_ms <= end * _MS, number) for number, end in enumerate(DURATIONS_SECONDS)]
        return sa.case((self._duration_ms.is_(None), sa.null()), *within, else_=len(DURATIONS_SECONDS))


class milliseconds_between(sa.sql.functions.GenericFunction[int]):  # noqa: N801 - written like SQL's own functions
    """Whole milliseconds between two times, computed by the database; NULL if one of them is."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(milliseconds_between, "sqlite")
def _sqlite_epoch(between: milliseconds_between, compiler: SQLCompiler, **options: Any) -> str:
    began, ended = (compiler.process(clause, **options) for clause in between.clauses)
    return f"CAST(ROUND((julianday({ended}) - julianday({began})) * 86400000) AS INTEGER)"


@compiles(milliseconds_between, "postgresql")
def _postgresql_epoch(between: milliseconds_between, compiler: SQLCompiler, **options: Any) -> str:
    began, ended = (compiler.process(clause, **options) for clause in between.clauses)
    return f"CAST(ROUND(EXTRACT(EPOCH FROM {ended} - {began}) * 1000) AS BIGINT)"
