"""Sum up the samples of metrics by hour and day; archive and delete the old ones."""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.stores.archiver import archived_samples
from adapters.stores.database import Database
from adapters.stores.lifecycle.run import CHUNKS_TO_SETTLE, LifecycleRun, RowsChanged, archive_name
from adapters.stores.repositories.metrics import from_ms
from adapters.stores.sql import table, upsert
from core.common.sketches import Sketch
from models.tables.monitoring import MetricDay, MetricHour, MetricSample, MetricSeries, MonitoringArchive

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_SAMPLE_BYTES = 21
_FILE_ROWS = 250_000

_Names = Mapping[int, tuple[str, str, str]]
_Chunk = tuple[int, int, int]

_archives = table(MonitoringArchive)
_samples = table(MetricSample)
hour_sums = table(MetricHour)
day_sums = table(MetricDay)


def sum_up(run: LifecycleRun, closed_before: int) -> None:
    """Hours and days that are over, from where the last run stopped."""
    if run.dry_run:
        return
    with run.database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(hour_sums.c.bucket)))
    begin = 0 if last is None else last + HOUR_MS
    end = closed_before // HOUR_MS * HOUR_MS
    touched: set[int] = set()
    while run.has_time():
        with run.database.read() as connection:
            first = connection.scalar(
                sa.select(sa.func.min(_samples.c.ts)).where(_samples.c.ts >= begin, _samples.c.ts < end)
            )
        if first is None:
            break
        begin = first // HOUR_MS * HOUR_MS
        _sum_up_hours(run, begin, min(begin + 6 * HOUR_MS, end))
        touched |= {begin // DAY_MS, (begin + 6 * HOUR_MS - 1) // DAY_MS}
        begin += 6 * HOUR_MS
    for day in sorted(touched):
        _sum_up_day(run, day * DAY_MS)


def _sum_up_hours(run: LifecycleRun, begin: int, end: int) -> None:
    with run.database.read() as connection:
        samples = connection.execute(
            sa.select(_samples.c.series, _samples.c.ts, _samples.c.value).where(_is_between(begin, end))
        ).all()
    groups: dict[tuple[int, int], list[float]] = defaultdict(list)
    for series, ts, value in samples:
        if math.isfinite(value):
            groups[ts // HOUR_MS * HOUR_MS, series].append(value)
    rows = [
        _sums_of(bucket, series, len(values), min(values), max(values), sum(values), Sketch.from_values(values))
        for (bucket, series), values in sorted(groups.items())
    ]
    with run.database.write() as connection:
        upsert(connection, MetricHour, rows, keys=["bucket", "series"])
    run.rows["hours summed up"] += len(rows)


def _sum_up_day(run: LifecycleRun, begin: int) -> None:
    with run.database.read() as connection:
        hours = connection.execute(
            sa.select(hour_sums).where(hour_sums.c.bucket >= begin, hour_sums.c.bucket < begin + DAY_MS)
        ).all()
    by_series: dict[int, list[sa.Row[tuple[object, ...]]]] = defaultdict(list)
    for hour in hours:
        by_series[hour.series].append(hour)
    rows = []
    for series, of_it in by_series.items():
        sketch = Sketch()
        for hour in of_it:
            sketch = sketch.merge(Sketch.from_bytes(hour.sketch))
        n, total = sum(hour.n for hour in of_it), sum(hour.total for hour in of_it)
        lowest, highest = min(hour.minimum for hour in of_it), max(hour.maximum for hour in of_it)
        rows.append(_sums_of(begin, series, n, lowest, highest, total, sketch))
    with run.database.write() as connection:
        upsert(connection, MetricDay, rows, keys=["bucket", "series"])


def _sums_of(
    bucket: int, series: int, n: int, minimum: float, maximum: float, total: float, sketch: Sketch
) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "series": series,
        "n": n,
        "minimum": minimum,
        "maximum": maximum,
        "total": total,
        "p50": sketch.quantile(0.5),
        "p95": sketch.quantile(0.95),
        "p99": sketch.quantile(0.99),
        "sketch": sketch.to_bytes(),
    }


def drop_sums(
    run: LifecycleRun, source: sa.Table, before: int, at_once: int, *, only_over_budget: bool = False
) -> None:
    """Delete summaries of times before this (milliseconds since 1970), oldest first."""
    if run.dry_run:
        if not only_over_budget:
            with run.database.read() as connection:
                rows = connection.scalar(sa.select(sa.func.count()).where(source.c.bucket < before)) or 0
            run.foresee(rows, 150, None, source.name)
        return
    chunks = 0
    while run.has_time() and not (only_over_budget and not run.excess_bytes()):
        with run.database.read() as connection:
            first = connection.scalar(sa.select(sa.func.min(source.c.bucket)).where(source.c.bucket < before))
        if first is None:
            return
        end = min(first + at_once, before)
        with run.database.write() as connection:
            result = connection.execute(sa.delete(source).where(source.c.bucket >= first, source.c.bucket < end))
            run.rows[source.name] += result.rowcount
        chunks += 1
        if chunks % CHUNKS_TO_SETTLE == 0:
            run.database.settle()


def archive_samples(run: LifecycleRun, old: int, over_budget_before: int) -> None:
    """Archive and delete old samples, and those over the budget, a day at a time."""
    if run.dry_run:
        _foresee_samples(run, old, over_budget_before)
        return
    names = _series_names(run.database)
    _finish_deletions(run, names)
    while run.has_time():
        limit = over_budget_before if run.excess_bytes() else old
        with run.database.read() as connection:
            first = connection.scalar(sa.select(sa.func.min(_samples.c.ts)).where(_samples.c.ts < limit))
            if first is None:
                return
            end = min((first // DAY_MS + 1) * DAY_MS, limit)
            last = connection.scalar(
                sa.select(_samples.c.ts)
                .where(_samples.c.ts >= first, _samples.c.ts < end)
                .order_by(_samples.c.ts)
                .offset(_FILE_ROWS)
                .limit(1)
            )
        end = end if last is None else max(last, first + 1)
        _add_late_samples(run, first, end)
        _archive_range(run, first, end, names)


def _foresee_samples(run: LifecycleRun, old: int, over_budget_before: int) -> None:
    begin = 0
    for before in (old, over_budget_before):
        day = _samples.c.ts // DAY_MS
        by_day = sa.select(sa.func.count()).where(_is_between(begin, before)).group_by(day).order_by(day)
        with run.database.read() as connection:
            for rows in connection.scalars(by_day):
                if before == over_budget_before and not run.excess_bytes():
                    return
                run.foresee(rows, _SAMPLE_BYTES, _FILE_ROWS, _samples.name)
        begin = before


def _series_names(database: Database) -> _Names:
    with database.read() as connection:
        rows = connection.execute(sa.select(table(MetricSeries))).all()
    return {row.id: (row.environment, row.service, row.metric) for row in rows}


def _add_late_samples(run: LifecycleRun, begin: int, end: int) -> None:
    """Sum up again where samples came after their hour had been summed up."""
    begin, end = begin // HOUR_MS * HOUR_MS, (end + HOUR_MS - 1) // HOUR_MS * HOUR_MS
    with run.database.read() as connection:
        summed = connection.scalar(
            sa.select(sa.func.sum(hour_sums.c.n)).where(hour_sums.c.bucket >= begin, hour_sums.c.bucket < end)
        )
        there = connection.scalar(
            sa.select(sa.func.count()).select_from(_samples).where(_samples.c.ts >= begin, _samples.c.ts < end)
        )
    # Fewer samples than were summed up: some of these hours are in an archive already, and were right then.
    if (summed or 0) < (there or 0):
        for at in range(begin, end, 6 * HOUR_MS):
            _sum_up_hours(run, at, min(at + 6 * HOUR_MS, end))
        for day in range(begin // DAY_MS, (end - 1) // DAY_MS + 1):
            _sum_up_day(run, day * DAY_MS)


def _archive_range(run: LifecycleRun, begin: int, end: int, names: _Names) -> None:
    archived = run.archiver.write(
        run.database.archive_source,
        f"SELECT ts, series, value FROM metric_samples WHERE ts >= {begin} AND ts < {end}",
        run.file(_samples.name, _stamp(begin), _stamp(end)),
        kinds={"ts": "whole", "series": "whole", "value": "real"},
        names=names,
    )
    with run.database.read() as connection:
        chunks = _chunks(connection, begin, end, run.policy.chunk_rows)
    if sum(rows for *_, rows in chunks) != archived.rows:
        # A sample came late into the range: the next archive of it has them all.
        return
    with run.database.write() as connection:
        # From here on these rows are in an archive, and a run that comes after a crash only deletes them.
        run.note_archive(connection, _samples.name, from_ms(begin), from_ms(end), archived, deleted_to=begin)
    run.archives.append(str(archived.file))
    _delete_chunks(run, archived.file, chunks, names)


def _finish_deletions(run: LifecycleRun, names: _Names) -> None:
    """Go on where a run ended between noting an archive and deleting the last of its samples."""
    with run.database.read() as connection:
        pending = connection.execute(
            sa.select(_archives.c.file, _archives.c.deleted_to).where(_archives.c.deleted_to.is_not(None))
        ).all()
    for file, deleted_to in pending:
        path = run.stores.folder / "archive" / file
        moments = sorted(ts for ts, *_ in archived_samples(path) if ts >= deleted_to)
        _delete_chunks(run, path, _chunks_of(moments, run.policy.chunk_rows), names)


def _delete_chunks(run: LifecycleRun, file: Path, chunks: Sequence[_Chunk], names: _Names) -> None:
    """Delete the samples that were archived, in short transactions. What came late into their range stays."""
    this = _archives.c.file == archive_name(file)
    for place, (first, last, rows) in enumerate(chunks, start=1):
        try:
            with run.database.write() as connection:
                if connection.execute(sa.delete(_samples).where(_is_between(first, last))).rowcount != rows:
                    raise RowsChanged
                connection.execute(sa.update(_archives).where(this).values(deleted_to=last))
        except RowsChanged:
            with run.database.write() as connection:
                rows = _delete_exactly(connection, file, first, last, names)
                connection.execute(sa.update(_archives).where(this).values(deleted_to=last))
        run.rows[_samples.name] += rows
        if place % CHUNKS_TO_SETTLE == 0:
            run.database.settle()
    with run.database.write() as connection:
        connection.execute(sa.update(_archives).where(this).values(deleted_to=None))
    run.database.settle()


def _delete_exactly(connection: sa.Connection, file: Path, first: int, last: int, names: _Names) -> int:
    """Delete the samples of a range that are in the archive as they are now, and no others."""
    ids = {name: series for series, name in names.items()}
    keys = [
        {"at": ts, "of": ids[name], "was": value} for ts, name, value in archived_samples(file) if first <= ts < last
    ]
    if not keys:
        return 0
    same = (
        _samples.c.ts == sa.bindparam("at"),
        _samples.c.series == sa.bindparam("of"),
        _samples.c.value == sa.bindparam("was"),
    )
    before = connection.scalar(sa.select(sa.func.count()).where(_is_between(first, last))) or 0
    connection.execute(sa.delete(_samples).where(*same), keys)
    return before - (connection.scalar(sa.select(sa.func.count()).where(_is_between(first, last))) or 0)


def _chunks(connection: sa.Connection, begin: int, end: int, at_most: int) -> list[_Chunk]:
    """First moment, end and number of samples of ranges that are quickly deleted."""
    chunks = []
    while begin < end:
        cut = connection.scalar(
            sa.select(_samples.c.ts).where(_is_between(begin, end)).order_by(_samples.c.ts).offset(at_most).limit(1)
        )
        last = end if cut is None else max(cut, begin + 1)
        rows = connection.scalar(sa.select(sa.func.count()).where(_is_between(begin, last))) or 0
        chunks.append((begin, last, rows))
        begin = last
    return chunks


def _chunks_of(moments: Sequence[int], at_most: int) -> list[_Chunk]:
    """As `_chunks`, of moments in order."""
    chunks = []
    at = 0
    while at < len(moments):
        end = bisect_right(moments, moments[min(at + at_most, len(moments)) - 1])
        chunks.append((moments[at], moments[end - 1] + 1, end - at))
        at = end
    return chunks


def _is_between(begin: int, end: int) -> sa.ColumnElement[bool]:
    return sa.and_(_samples.c.ts >= begin, _samples.c.ts < end)


def _stamp(ms: int) -> str:
    return f"{from_ms(ms):%Y%m%dT%H%M%S}{ms % 1000:03d}"
