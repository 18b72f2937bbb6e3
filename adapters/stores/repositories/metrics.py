"""Metrics: samples, hourly and daily summaries."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.series import series_ids
from adapters.stores.sql import table, upsert
from core.common.sketches import Sketch
from models.failures import StoreConstraintError
from models.metrics import HOST, Metric
from models.tables.monitoring import MetricHour, MetricSample, MetricSeries

log = logging.getLogger("roas")
_LATEST = timedelta(minutes=15)
_series = table(MetricSeries)
_samples = table(MetricSample)
_hours = table(MetricHour)
_HOUR_MS = 3_600_000
_UNSUMMED_MS = 48 * _HOUR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Metrics(Repository):
    """Metrics."""

    def add(self, metrics: Sequence[Metric]) -> int:
        """Add samples and tell how many were kept.

        Samples of new series beyond SERIES_LIMIT of an environment are refused: their names go to the
        dead letters, once each, and a warning is logged.

        Raises:
            StoreConstraintError: A value is no number, or infinite; none was added.
        """
        if not metrics:
            return 0
        for metric in metrics:
            if not math.isfinite(metric.value):
                raise StoreConstraintError(
                    f"Sample {metric.environment}/{metric.service}/{metric.name} is {metric.value};",
                    advice="leave out what could not be measured.",
                )
        with self._database.write() as connection:
            ids = series_ids(connection, {(metric.environment, metric.service, metric.name) for metric in metrics})
            rows = [
                {"ts": to_ms(metric.sampled_at), "series": series, "value": metric.value}
                for metric in metrics
                if (series := ids.get((metric.environment, metric.service, metric.name))) is not None
            ]
            upsert(connection, MetricSample, rows, keys=["ts", "series"])
        return len(rows)

    def latest(self, environment: str) -> list[Metric]:
        """The newest sample of each metric that has one within 15 minutes of the environment's newest."""
        with self._database.read() as connection:
            series = sa.select(_series.c.id).where(_series.c.environment == environment)
            if connection.execute(series.limit(1)).one_or_none() is None:
                return []
            newest = connection.scalar(_newest_of(environment, connection.dialect.name))
            if newest is None:
                return []
            place = sa.func.row_number().over(partition_by=_samples.c.series, order_by=_samples.c.ts.desc())
            recent = (
                sa.select(_samples, place.label("place"))
                .where(_samples.c.ts > newest - _LATEST // timedelta(milliseconds=1), _samples.c.series.in_(series))
                .subquery()
            )
            rows = connection.execute(
                sa.select(recent.c.ts, recent.c.value, _series.c.service, _series.c.metric)
                .join(_series, _series.c.id == recent.c.series)
                .where(recent.c.place == 1, _series.c.environment == environment)
                .order_by(_series.c.service, _series.c.metric)
            ).all()
        return [_to_metric(environment, row) for row in rows]

    def samples_since(self, environment: str, names: Sequence[str], since: datetime) -> list[Metric]:
        """The samples of some metrics of an environment's services since a moment, oldest first."""
        query = (
            sa.select(_samples.c.ts, _samples.c.value, _series.c.service, _series.c.metric)
            .join(_series, _series.c.id == _samples.c.series)
            .where(_series.c.environment == environment, _series.c.metric.in_(names))
            .where(_samples.c.ts >= to_ms(since))
            .order_by(_samples.c.ts, _series.c.service, _series.c.metric)
        )
        return [_to_metric(environment, row) for row in self._all(query)]

    def measured_hours(self, environment: str, name: str, since: datetime, until: datetime) -> set[datetime]:
        """The begins of the hours in which a metric of an environment was measured.

        Summaries tell it, each hour asked for by itself, since their rows and those of samples are in the order of
        time; and of what is not summed up yet the samples of the last two days.
        """
        first, last = to_ms(since) // _HOUR_MS * _HOUR_MS, to_ms(until)
        with self._database.read() as connection:
            series = connection.scalars(
                sa.select(_series.c.id).where(_series.c.environment == environment, _series.c.metric == name)
            ).all()
            summed = connection.scalars(
                sa.select(_hours.c.bucket)
                .where(_hours.c.series.in_(series), _hours.c.bucket.in_(range(first, last, _HOUR_MS)))
                .distinct()
            ).all()
            newest = max(max(summed, default=first - _HOUR_MS) + _HOUR_MS, last - _UNSUMMED_MS)
            sampled = connection.scalars(
                sa.select(_samples.c.ts).where(
                    _samples.c.series.in_(series), _samples.c.ts >= newest, _samples.c.ts <= last
                )
            ).all()
        return {from_ms(moment // _HOUR_MS * _HOUR_MS) for moment in (*summed, *sampled)}

    def hours_of_services(
        self, environment: str, name: str, since: datetime, until: datetime
    ) -> dict[str, dict[datetime, tuple[float, Sketch]]]:
        """The highest value and all values of a metric in each hour that it was measured, by service and hour."""
        first, last = to_ms(since) // _HOUR_MS * _HOUR_MS, to_ms(until)
        its = (_series.c.environment == environment, _series.c.metric == name, _series.c.service != HOST)
        with self._database.read() as connection:
            services = {row.id: row.service for row in connection.execute(sa.select(_series).where(*its))}
            summed = connection.execute(
                sa.select(_hours).where(
                    _hours.c.series.in_(services), _hours.c.bucket.in_(range(first, last, _HOUR_MS))
                )
            ).all()
            newest = max((row.bucket + _HOUR_MS for row in summed), default=first)
            samples = connection.execute(
                sa.select(_samples).where(_samples.c.series.in_(services), _samples.c.ts.between(newest, last))
            ).all()
        values: dict[tuple[int, int], list[float]] = {}
        for row in samples:
            values.setdefault((row.series, row.ts // _HOUR_MS * _HOUR_MS), []).append(row.value)
        hours = [(row.series, row.bucket, row.maximum, Sketch.from_bytes(row.sketch)) for row in summed]
        hours += [(*key, max(seen), Sketch.from_values(seen)) for key, seen in values.items()]
        found: dict[str, dict[datetime, tuple[float, Sketch]]] = {}
        for series, hour, highest, sketch in hours:
            found.setdefault(services[series], {})[from_ms(hour)] = (highest, sketch)
        return found


def _newest_of(environment: str, dialect: str) -> sa.Select[Any]:
    """When an environment was sampled last."""
    its = _series.c.environment == environment
    if dialect == "postgresql":
        # By the index of each series: what other environments were sampled since is not read.
        of_one = sa.select(sa.func.max(_samples.c.ts)).where(_samples.c.series == _series.c.id).scalar_subquery()
        return sa.select(sa.func.max(of_one)).select_from(_series).where(its)
    series = sa.select(_series.c.id).where(its)
    return sa.select(_samples.c.ts).where(_samples.c.series.in_(series)).order_by(_samples.c.ts.desc()).limit(1)


def _to_metric(environment: str, row: Any) -> Metric:
    return Metric(
        environment=environment, service=row.service, name=row.metric, value=row.value, sampled_at=from_ms(row.ts)
    )


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def from_ms(ms: int) -> datetime:
    """The moment of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)
