"""The life cycle of records: compress, clean up, archive, optimise, vacuum.

Each step can be repeated and interrupted anywhere: a row is deleted only in the transaction that also notes
the archive it is in, after that archive was read back. Every transaction is short, so writers hardly wait.
"""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import logging
import math
import shutil
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from adapters.stores.archiver import Archived, Archiver, archived_samples
from adapters.stores.audit import audit_archived
from adapters.stores.database import Database
from adapters.stores.gate import Gate
from adapters.stores.repositories.metrics import from_ms, to_ms
from adapters.stores.sql import table, upsert
from adapters.stores.stores import Stores
from core.common.sketches import Sketch
from core.storage.retention import Cutoffs, cutoffs, over_budget
from models.failures import StoreCorruptError, StoreFullError
from models.retention import MIB, LifecycleStep, RetentionPolicy
from models.tables.columns import JsonText, UtcDateTime
from models.tables.deployment_logs import (
    DeploymentLogsArchive,
    DeploymentLogsDeadLetter,
    DeploymentOperation,
    EnvironmentValidation,
    OperationStepRow,
    ReleaseRow,
    ServiceStateChange,
)
from models.tables.errors import (
    DeploymentError,
    ErrorImpact,
    ErrorsArchive,
    ErrorsDeadLetter,
    EvidenceRow,
    RecoveryExecutionRow,
    TicketHistory,
    TicketRow,
)
from models.tables.monitoring import (
    AlertRow,
    DeploymentHealth,
    MetricDay,
    MetricHour,
    MetricSample,
    MetricSeries,
    MonitoringArchive,
    MonitoringDeadLetter,
    PredictionRow,
    ProbeRow,
    ReportRow,
    ServiceHealthScore,
)

__all__ = [
    "LifecycleStep",
    "RetentionPolicy",
    "archive_deployments",
    "clean_errors",
    "compress_monitoring",
    "optimise",
    "vacuum",
]

log = logging.getLogger("roas")

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_LATE = 2 * _HOUR
"""An hour is summed up once it is over for this long; what comes later is added before its samples go."""

_DATED: tuple[tuple[type[SQLModel], str], ...] = (
    (ProbeRow, "checked_at"),
    (ServiceHealthScore, "timestamp"),
    (DeploymentHealth, "timestamp"),
    (AlertRow, "resolved_at"),
    (PredictionRow, "scored_at"),
    (ReportRow, "made_at"),
    (MonitoringDeadLetter, "buried_at"),
)
"""Rows of monitoring, and what tells when they are over; those that come by the thousand first."""

_MANY = 3
_SAMPLE_BYTES = 21
_ROW_BYTES = 24
_ROWS_TO_WEIGH = 500
_FILE_ROWS = 250_000
_ROWS_WITH_CHILDREN = 1000
_TIMEOUT_SECONDS = 1.0
_CHUNKS_TO_SETTLE = 4
_SAY_EVERY_SECONDS = 10.0

_Names = Mapping[int, tuple[str, str, str]]
_Chunk = tuple[int, int, int]

_archives = table(MonitoringArchive)
_samples = table(MetricSample)
_hours = table(MetricHour)
_days = table(MetricDay)


def compress_monitoring(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Sum up closed hours and days; archive and delete what is old, and the oldest samples over the budget.

    Raises:
        StoreFullError: The disk has no room for archives.
        StoreError: A store or an archive failed; what was done stays done, and repeating is safe.
    """
    with _Run("compress monitoring", stores, "monitoring", policy, dry_run) as run:
        limits = cutoffs(run.policy, now)
        _sum_up(run, to_ms(now) - _LATE)
        _archive_samples(run, to_ms(limits.monitoring), to_ms(limits.over_budget))
        at_once = run.policy.chunk_rows // 4
        for row, moment in _DATED:
            where = f"{moment} < {_literal(limits.monitoring)}"
            _archive_with_belongings(run, MonitoringArchive, row, where, _nothing_else, at_once)
        _drop_sums(run, _hours, to_ms(limits.hours), 6 * _HOUR)
        _drop_sums(run, _days, to_ms(limits.days), 6 * _DAY)
        for row, moment in _DATED[:_MANY]:
            where = f"{moment} < {_literal(limits.over_budget)}"
            _archive_with_belongings(run, MonitoringArchive, row, where, _nothing_else, at_once, only_over_budget=True)
        # Their days stay, and the samples themselves are in archives.
        _drop_sums(run, _hours, to_ms(limits.over_budget), 6 * _HOUR, only_over_budget=True)
    return run.result()


def clean_errors(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Archive and delete errors that were resolved long ago, with all that belongs to them.

    What is not resolved stays for ever, and so does an error a person still works on. Evidence that no error
    owns leaves at the same age.

    Raises:
        StoreFullError: The disk has no room for archives.
        StoreError: A store or an archive failed; what was done stays done, and repeating is safe.
    """
    with _Run("clean errors", stores, "errors", policy, dry_run) as run:
        limits = cutoffs(run.policy, now)
        before = _literal(limits.errors)
        nobody_works_on_it = (
            "NOT EXISTS (SELECT 1 FROM manual_intervention_tickets t "
            "WHERE t.error_id = deployment_errors.error_id AND t.state <> 'resolved')"
        )
        where = f"resolved_at < {before} AND {nobody_works_on_it}"

        def belongings(owners: str) -> list[_Partition]:
            of_errors = f"error_id IN (SELECT error_id FROM deployment_errors WHERE {owners})"
            tickets = f"SELECT ticket_id FROM manual_intervention_tickets WHERE {of_errors}"
            return [
                _Partition(ErrorImpact, of_errors),
                _Partition(RecoveryExecutionRow, of_errors),
                _Partition(EvidenceRow, of_errors),
                _Partition(TicketHistory, f"ticket_id IN ({tickets})"),
                _Partition(TicketRow, of_errors),
            ]

        _archive_with_belongings(run, ErrorsArchive, DeploymentError, where, belongings)
        # Taken before a replacement that went well, so no error owns it.
        unowned = "error_id IS NULL AND taken_at < "
        _archive_with_belongings(run, ErrorsArchive, EvidenceRow, f"{unowned}{before}", _nothing_else)
        _archive_dead_letters(run, ErrorsArchive, ErrorsDeadLetter, limits)
        early = _literal(limits.over_budget)
        _archive_with_belongings(
            run, ErrorsArchive, EvidenceRow, f"{unowned}{early}", _nothing_else, only_over_budget=True
        )
        where = f"resolved_at < {early} AND {nobody_works_on_it}"
        _archive_with_belongings(run, ErrorsArchive, DeploymentError, where, belongings, only_over_budget=True)
    return run.result()


def archive_deployments(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Archive and delete old operations with their state changes, validations and steps.

    Failed ones stay longer than successful ones, and the last success of each kind and environment stays. Of
    the releases the latest stay, the last that was proven, and each that an operation still names.

    Raises:
        StoreFullError: The disk has no room for archives.
        StoreError: A store or an archive failed; what was done stays done, and repeating is safe.
    """
    with _Run("archive deployments", stores, "deployment_logs", policy, dry_run) as run:
        limits = cutoffs(run.policy, now)
        a_newer_success = (
            "EXISTS (SELECT 1 FROM deployment_operations n "
            "WHERE n.environment = deployment_operations.environment AND n.status = 'success' "
            "AND n.operation_type = deployment_operations.operation_type "
            "AND n.start_time > deployment_operations.start_time)"
        )

        def gone_well(before: datetime) -> str:
            return f"(status = 'success' AND start_time < {_literal(before)} AND {a_newer_success})"

        def failed(before: datetime) -> str:
            return f"(status = 'failed' AND start_time < {_literal(before)})"

        where = f"({gone_well(limits.deployments)} OR {failed(limits.failed_deployments)})"

        def belongings(owners: str) -> list[_Partition]:
            of_them = f"deployment_id IN (SELECT deployment_id FROM deployment_operations WHERE {owners})"
            return [
                _Partition(ServiceStateChange, of_them),
                _Partition(EnvironmentValidation, of_them),
                _Partition(OperationStepRow, of_them),
            ]

        _archive_with_belongings(run, DeploymentLogsArchive, DeploymentOperation, where, belongings)
        _archive_with_belongings(run, DeploymentLogsArchive, ReleaseRow, _old_releases(run.policy), _nothing_else)
        _archive_dead_letters(run, DeploymentLogsArchive, DeploymentLogsDeadLetter, limits)
        for where in (gone_well(limits.over_budget), failed(limits.over_budget)):
            _archive_with_belongings(
                run, DeploymentLogsArchive, DeploymentOperation, where, belongings, only_over_budget=True
            )
    return run.result()


def optimise(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Check every store, refresh what its indexes know about their rows, and empty its log into the file.

    Raises:
        StoreCorruptError: A store is damaged; its next opening sets it aside.
        StoreError: A store failed.
    """
    notes = []
    for name, database in stores.databases.items():
        faults = database.faults()
        if faults:
            raise StoreCorruptError(
                f"Store {name} ({database.place}) has faults: {'; '.join(faults)};",
                advice="stop the system and restore the last backup with `roas restore`.",
            )
        if not dry_run:
            database.analyse()
        notes.append(f"{name} is whole")
    return LifecycleStep(name="optimise", dry_run=dry_run, notes=tuple(notes))


def vacuum(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Give free space back to the disk, where there is enough of it to pay.

    Raises:
        StoreError: A store failed.
    """
    policy = policy or RetentionPolicy()
    deadline = time.monotonic() + policy.step_time.total_seconds()
    before = after = 0
    notes = []
    for database in stores.databases.values():
        before += database.use().file_bytes
        left, remark = database.give_back(policy, deadline, dry_run=dry_run)
        after += left
        if remark:
            notes.append(remark)
    return LifecycleStep(
        name="vacuum",
        dry_run=dry_run,
        bytes_before=before,
        bytes_after=after,
        complete=time.monotonic() < deadline,
        notes=tuple(notes),
    )


def _old_releases(policy: RetentionPolicy) -> str:
    latest = (
        "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY environment ORDER BY created_at DESC, id DESC) "
        "AS place FROM releases {which}) AS ranked WHERE place <= {number}"
    )
    # Its id where the details of an operation name it: the release it made, or one it went back to.
    named = (
        "SELECT 1 FROM deployment_operations o WHERE o.environment = releases.environment AND "
        "(o.deployment_id = releases.deployment_id OR replace(o.metadata, releases.release_id, '') <> o.metadata)"
    )
    return (
        f"id NOT IN ({latest.format(which='', number=policy.releases)}) "
        f"AND id NOT IN ({latest.format(which='WHERE proven', number=1)}) AND NOT EXISTS ({named})"
    )


def _archive_dead_letters(run: _Run, archive: type[SQLModel], letters: type[SQLModel], limits: Cutoffs) -> None:
    where = f"buried_at < {_literal(limits.monitoring)}"
    _archive_with_belongings(run, archive, letters, where, _nothing_else)


@dataclass(frozen=True, slots=True)
class _Partition:
    """Rows of one table that leave together with others; `where` is SQL."""

    row: type[SQLModel]
    where: str


_Belongings = Callable[[str], list[_Partition]]


@dataclass(slots=True)
class _Run:
    """One step while it runs: its time, what it took, and the process that writes its archives."""

    name: str
    stores: Stores
    store: str
    given_policy: RetentionPolicy | None
    dry_run: bool
    rows: Counter[str] = field(default_factory=Counter)
    archives: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about_bytes: int = 0
    about_files: int = 0
    complete: bool = True
    policy: RetentionPolicy = field(init=False)
    database: Database = field(init=False)
    archiver: Archiver = field(init=False, default_factory=Archiver)
    undo: ExitStack = field(init=False, default_factory=ExitStack)
    deadline: float = field(init=False)
    said_at: float = field(init=False, default_factory=time.monotonic)
    bytes_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.policy = self.given_policy or RetentionPolicy()
        self.database = self.stores.databases[self.store]
        self.deadline = time.monotonic() + self.policy.step_time.total_seconds()
        self.bytes_before = self.database.use().used_bytes

    def __enter__(self) -> _Run:
        if self.dry_run:
            return self
        folder = self.stores.folder
        free = shutil.disk_usage(folder).free
        if free < self.policy.free_bytes:
            raise StoreFullError(
                f"Only {free} bytes are free in {folder}, {self.name} wants {self.policy.free_bytes};",
                advice="free room on its disk; what is old leaves at the next run.",
            )
        # Two at once would archive the same rows, each into a file of its own.
        self.undo.enter_context(Gate(folder / "lifecycle.lock").held(_TIMEOUT_SECONDS, self.name.capitalize()))
        self.undo.callback(self.archiver.close)
        for part in folder.glob(f"archive/{self.store}/*/*.part"):
            # Of an archiver that was killed: nothing else writes here while the lock is held.
            part.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def has_time(self) -> bool:
        """Whether the step may begin another chunk."""
        now = time.monotonic()
        if now - self.said_at > _SAY_EVERY_SECONDS:
            self.said_at = now
            log.info("%s: %s so far", self.name, ", ".join(f"{rows:,} {name}" for name, rows in self.rows.items()))
        self.complete = now < self.deadline
        return self.complete

    def over_budget(self) -> int:
        """How many bytes too many the store holds now."""
        return max(0, over_budget(self.database.use(), self.policy) - (self.about_bytes if self.dry_run else 0))

    def foresee(self, rows: int, bytes_each: float, rows_a_file: int | None, source: str) -> None:
        """Count what a dry run would take; None for `rows_a_file` where nothing of it is archived."""
        self.rows[source] += rows
        self.about_bytes += round(rows * bytes_each)
        self.about_files += 0 if rows_a_file is None else -(-rows // rows_a_file)

    def result(self) -> LifecycleStep:
        """What was done."""
        if self.complete and (beyond := self.over_budget()):
            self.notes.append(
                f"{self.store} still holds {beyond / MIB:.1f} MiB more than its budget of "
                f"{self.policy.store_bytes / MIB:.0f} MiB: the rest is young, or not resolved"
            )
        return LifecycleStep(
            name=self.name,
            dry_run=self.dry_run,
            rows=dict(self.rows),
            archives=tuple(self.archives),
            bytes_before=self.bytes_before,
            bytes_after=self.database.use().used_bytes,
            about_bytes=self.about_bytes,
            about_files=self.about_files,
            complete=self.complete,
            notes=tuple(self.notes),
        )

    def file(self, source: str, first: str, last: str) -> Path:
        """Where an archive goes: never in the place of one that is noted.

        What begins with the same row and is not noted is an attempt that a crash ended: it goes.
        """
        folder = self.stores.folder / "archive" / self.store / source
        with self.database.read() as connection:
            noted = set(
                connection.scalars(sa.text("SELECT file FROM archives WHERE source = :source"), {"source": source})
            )
        for attempt in folder.glob(f"{first}-*.parquet"):
            if _name(attempt) not in noted:
                attempt.unlink()
        names = (f"{first}-{last}{'' if place == 1 else f'-{place}'}.parquet" for place in count(1))
        return next(folder / name for name in names if _name(folder / name) not in noted)


def _sum_up(run: _Run, closed_before: int) -> None:
    """Hours and days that are over, from where the last run stopped."""
    if run.dry_run:
        return
    with run.database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(_hours.c.bucket)))
    begin = 0 if last is None else last + _HOUR
    end = closed_before // _HOUR * _HOUR
    touched: set[int] = set()
    while run.has_time():
        with run.database.read() as connection:
            first = connection.scalar(
                sa.select(sa.func.min(_samples.c.ts)).where(_samples.c.ts >= begin, _samples.c.ts < end)
            )
        if first is None:
            break
        begin = first // _HOUR * _HOUR
        _sum_up_hours(run, begin, min(begin + 6 * _HOUR, end))
        touched |= {begin // _DAY, (begin + 6 * _HOUR - 1) // _DAY}
        begin += 6 * _HOUR
    for day in sorted(touched):
        _sum_up_day(run, day * _DAY)


def _sum_up_hours(run: _Run, begin: int, end: int) -> None:
    with run.database.read() as connection:
        found = connection.execute(
            sa.select(_samples.c.series, _samples.c.ts, _samples.c.value).where(_between(begin, end))
        ).all()
    groups: dict[tuple[int, int], list[float]] = defaultdict(list)
    for series, ts, value in found:
        if math.isfinite(value):
            groups[ts // _HOUR * _HOUR, series].append(value)
    rows = [
        _summed(bucket, series, len(values), min(values), max(values), sum(values), Sketch.of(values))
        for (bucket, series), values in sorted(groups.items())
    ]
    with run.database.write() as connection:
        upsert(connection, MetricHour, rows, keys=["bucket", "series"])
    run.rows["hours summed up"] += len(rows)


def _sum_up_day(run: _Run, begin: int) -> None:
    with run.database.read() as connection:
        hours = connection.execute(
            sa.select(_hours).where(_hours.c.bucket >= begin, _hours.c.bucket < begin + _DAY)
        ).all()
    by_series: dict[int, list[sa.Row[tuple[object, ...]]]] = defaultdict(list)
    for hour in hours:
        by_series[hour.series].append(hour)
    rows = []
    for series, of_it in by_series.items():
        sketch = Sketch()
        for hour in of_it:
            sketch = sketch.merged(Sketch.from_bytes(hour.sketch))
        n, total = sum(hour.n for hour in of_it), sum(hour.total for hour in of_it)
        lowest, highest = min(hour.minimum for hour in of_it), max(hour.maximum for hour in of_it)
        rows.append(_summed(begin, series, n, lowest, highest, total, sketch))
    with run.database.write() as connection:
        upsert(connection, MetricDay, rows, keys=["bucket", "series"])


def _summed(
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


def _drop_sums(run: _Run, source: sa.Table, before: int, at_once: int, *, only_over_budget: bool = False) -> None:
    """Delete what was summed up of moments before this (milliseconds since 1970), oldest first."""
    if run.dry_run:
        if not only_over_budget:
            with run.database.read() as connection:
                rows = connection.scalar(sa.select(sa.func.count()).where(source.c.bucket < before)) or 0
            run.foresee(rows, 150, None, source.name)
        return
    chunks = 0
    while run.has_time() and not (only_over_budget and not run.over_budget()):
        with run.database.read() as connection:
            first = connection.scalar(sa.select(sa.func.min(source.c.bucket)).where(source.c.bucket < before))
        if first is None:
            return
        end = min(first + at_once, before)
        with run.database.write() as connection:
            gone = connection.execute(sa.delete(source).where(source.c.bucket >= first, source.c.bucket < end))
            run.rows[source.name] += gone.rowcount
        chunks += 1
        if chunks % _CHUNKS_TO_SETTLE == 0:
            run.database.settle()


def _archive_samples(run: _Run, old: int, over_budget_before: int) -> None:
    if run.dry_run:
        _foresee_samples(run, old, over_budget_before)
        return
    names = _series_names(run.database)
    _finish_deletions(run, names)
    while run.has_time():
        limit = over_budget_before if run.over_budget() else old
        with run.database.read() as connection:
            first = connection.scalar(sa.select(sa.func.min(_samples.c.ts)).where(_samples.c.ts < limit))
            if first is None:
                return
            end = min((first // _DAY + 1) * _DAY, limit)
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


def _foresee_samples(run: _Run, old: int, over_budget_before: int) -> None:
    begin = 0
    for before in (old, over_budget_before):
        day = _samples.c.ts // _DAY
        by_day = sa.select(sa.func.count()).where(_between(begin, before)).group_by(day).order_by(day)
        with run.database.read() as connection:
            for rows in connection.scalars(by_day):
                if before == over_budget_before and not run.over_budget():
                    return
                run.foresee(rows, _SAMPLE_BYTES, _FILE_ROWS, _samples.name)
        begin = before


def _series_names(database: Database) -> _Names:
    with database.read() as connection:
        found = connection.execute(sa.select(table(MetricSeries))).all()
    return {row.id: (row.environment, row.service, row.metric) for row in found}


def _add_late_samples(run: _Run, begin: int, end: int) -> None:
    """Sum up again where samples came after their hour had been summed up."""
    begin, end = begin // _HOUR * _HOUR, (end + _HOUR - 1) // _HOUR * _HOUR
    with run.database.read() as connection:
        summed = connection.scalar(
            sa.select(sa.func.sum(_hours.c.n)).where(_hours.c.bucket >= begin, _hours.c.bucket < end)
        )
        there = connection.scalar(
            sa.select(sa.func.count()).select_from(_samples).where(_samples.c.ts >= begin, _samples.c.ts < end)
        )
    # Fewer samples than were summed up: some of these hours are in an archive already, and were right then.
    if (summed or 0) < (there or 0):
        for at in range(begin, end, 6 * _HOUR):
            _sum_up_hours(run, at, min(at + 6 * _HOUR, end))
        for day in range(begin // _DAY, (end - 1) // _DAY + 1):
            _sum_up_day(run, day * _DAY)


def _archive_range(run: _Run, begin: int, end: int, names: _Names) -> None:
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
        _note(connection, MonitoringArchive, _samples.name, from_ms(begin), from_ms(end), archived, deleted_to=begin)
    run.archives.append(str(archived.file))
    _delete_chunks(run, archived.file, chunks, names)


def _finish_deletions(run: _Run, names: _Names) -> None:
    """Go on where a run ended between noting an archive and deleting the last of its samples."""
    with run.database.read() as connection:
        pending = connection.execute(
            sa.select(_archives.c.file, _archives.c.deleted_to).where(_archives.c.deleted_to.is_not(None))
        ).all()
    for file, deleted_to in pending:
        path = run.stores.folder / "archive" / file
        moments = sorted(ts for ts, *_ in archived_samples(path) if ts >= deleted_to)
        _delete_chunks(run, path, _chunks_of(moments, run.policy.chunk_rows), names)


def _delete_chunks(run: _Run, file: Path, chunks: Sequence[_Chunk], names: _Names) -> None:
    """Delete the samples that were archived, in short transactions. What came late into their range stays."""
    this = _archives.c.file == _name(file)
    for place, (first, last, rows) in enumerate(chunks, start=1):
        try:
            with run.database.write() as connection:
                if connection.execute(sa.delete(_samples).where(_between(first, last))).rowcount != rows:
                    raise _Changed
                connection.execute(sa.update(_archives).where(this).values(deleted_to=last))
        except _Changed:
            with run.database.write() as connection:
                rows = _delete_exactly(connection, file, first, last, names)
                connection.execute(sa.update(_archives).where(this).values(deleted_to=last))
        run.rows[_samples.name] += rows
        if place % _CHUNKS_TO_SETTLE == 0:
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
    before = connection.scalar(sa.select(sa.func.count()).where(_between(first, last))) or 0
    connection.execute(sa.delete(_samples).where(*same), keys)
    return before - (connection.scalar(sa.select(sa.func.count()).where(_between(first, last))) or 0)


def _chunks(connection: sa.Connection, begin: int, end: int, at_most: int) -> list[_Chunk]:
    """First moment, end and number of samples of ranges that are quickly deleted."""
    found = []
    while begin < end:
        cut = connection.scalar(
            sa.select(_samples.c.ts).where(_between(begin, end)).order_by(_samples.c.ts).offset(at_most).limit(1)
        )
        last = end if cut is None else max(cut, begin + 1)
        rows = connection.scalar(sa.select(sa.func.count()).where(_between(begin, last))) or 0
        found.append((begin, last, rows))
        begin = last
    return found


def _chunks_of(moments: Sequence[int], at_most: int) -> list[_Chunk]:
    """As `_chunks`, of moments in order."""
    found = []
    at = 0
    while at < len(moments):
        end = bisect_right(moments, moments[min(at + at_most, len(moments)) - 1])
        found.append((moments[at], moments[end - 1] + 1, end - at))
        at = end
    return found


def _between(begin: int, end: int) -> sa.ColumnElement[bool]:
    return sa.and_(_samples.c.ts >= begin, _samples.c.ts < end)


def _nothing_else(_: str) -> list[_Partition]:
    return []


def _archive_with_belongings(
    run: _Run,
    archive: type[SQLModel],
    owner: type[SQLModel],
    where: str,
    belongings: _Belongings,
    rows_at_once: int = _ROWS_WITH_CHILDREN,
    *,
    only_over_budget: bool = False,
) -> None:
    name = table(owner).name
    if run.dry_run:
        # What would leave for its age is counted above; for the budget only as far as that is not enough.
        if not only_over_budget or run.over_budget():
            _foresee_rows(run, [*belongings(where), _Partition(owner, where)], rows_at_once, only_over_budget)
        return
    while run.has_time() and not (only_over_budget and not run.over_budget()):
        chunk = f"SELECT id FROM {name} WHERE {where} ORDER BY id LIMIT {rows_at_once}"
        with run.database.read() as connection:
            first, last = connection.exec_driver_sql(f"SELECT min(id), max(id) FROM ({chunk}) AS chunk").one()
        if last is None:
            return
        owners = f"id <= {last} AND {where}"
        parts = [*belongings(owners), _Partition(owner, owners)]
        archived = [_archive_part(run, part, f"{name}-{first}", str(last)) for part in parts]
        if not _delete_parts(run, archive, parts, archived):
            log.info("%s changed while it was archived; once more", name)


def _foresee_rows(run: _Run, parts: Sequence[_Partition], rows_a_file: int, only_over_budget: bool) -> None:
    for part in parts:
        target = table(part.row)
        width = " + ".join(
            f'coalesce(length(CAST("{column.name}" AS TEXT)), 0)'
            for column in target.columns
            if column.computed is None
        )
        some = f"SELECT {width} AS width FROM {target.name} WHERE {part.where} LIMIT {_ROWS_TO_WEIGH}"
        with run.database.read() as connection:
            rows = connection.exec_driver_sql(f"SELECT count(*) FROM {target.name} WHERE {part.where}").scalar_one()
            each = connection.exec_driver_sql(f"SELECT avg(width) FROM ({some}) AS weighed").scalar_one()
        each = float(each or 0) + _ROW_BYTES
        if only_over_budget:
            rows = min(rows, -(-run.over_budget() // round(each)))
        run.foresee(rows, each, rows_a_file, target.name)


def _archive_part(run: _Run, part: _Partition, first: str, last: str) -> Archived:
    target = table(part.row)
    columns = [column for column in target.columns if column.computed is None]
    listed = ", ".join(f'"{column.name}"' for column in columns)
    return run.archiver.write(
        run.database.archive_source,
        f"SELECT {listed} FROM {target.name} WHERE {part.where} ORDER BY id",
        run.file(target.name, first, last),
        kinds={column.name: _kind(column) for column in columns},
    )


def _delete_parts(
    run: _Run, archive: type[SQLModel], parts: Sequence[_Partition], archived: Sequence[Archived]
) -> bool:
    """Delete exactly what was archived, or nothing: False where a row came or went since."""
    try:
        with run.database.write() as connection:
            for part, file in zip(parts, archived, strict=True):
                name = table(part.row).name
                audit_archived(connection, name, part.where, _name(file.file), file.sha256)
                gone = connection.exec_driver_sql(f"DELETE FROM {name} WHERE {part.where}").rowcount
                if gone != file.rows:
                    raise _Changed
                if gone:
                    now = datetime.now(UTC)
                    _note(connection, archive, name, now, now, file)
    except _Changed:
        return False
    for part, file in zip(parts, archived, strict=True):
        if file.rows:
            run.archives.append(str(file.file))
            run.rows[table(part.row).name] += file.rows
        else:
            file.file.unlink()
    return True


class _Changed(Exception):  # noqa: N818 - not a failure: undoes a transaction
    pass


def _note(
    connection: sa.Connection,
    archive: type[SQLModel],
    source: str,
    first: datetime,
    last: datetime,
    archived: Archived,
    **more: Any,
) -> None:
    values = {
        "file": _name(archived.file),
        "source": source,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "rows": archived.rows,
        "bytes": archived.size,
        "sha256": archived.sha256,
        "archived_at": datetime.now(UTC),
        **more,
    }
    upsert(connection, archive, values, keys=["file"])


def _name(archive: Path) -> str:
    """An archive's name in the manifest."""
    return "/".join(archive.parts[-3:])


def _literal(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"


def _stamp(ms: int) -> str:
    return f"{from_ms(ms):%Y%m%dT%H%M%S}{ms % 1000:03d}"


def _kind(column: sa.Column[object]) -> str:
    kind = column.type
    if isinstance(kind, UtcDateTime):
        return "moment"
    if isinstance(kind, sa.Boolean):
        return "truth"
    if isinstance(kind, sa.Integer):
        return "whole"
    if isinstance(kind, sa.Float):
        return "real"
    if isinstance(kind, sa.LargeBinary):
        return "bytes"
    if isinstance(kind, sa.Text | JsonText):
        return "text"
    raise TypeError(f"no archive type for {column}")
