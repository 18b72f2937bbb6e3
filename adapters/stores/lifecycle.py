"""The life cycle of records: compress, clean up, archive, optimise, vacuum.

Each step can be repeated and interrupted anywhere: a row is deleted only in the transaction that also notes
the archive it is in, after that archive was read back. Every transaction is short, so writers hardly wait.
"""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import SQLModel

from adapters.stores.archiver import Archived, Archiver
from adapters.stores.database import SqliteDatabase
from adapters.stores.monitoring import from_ms, to_ms
from adapters.stores.sql import table, upsert
from adapters.stores.stores import Stores
from core.retention import cutoffs, over_budget, pages_to_give_back
from core.sketches import Sketch
from models.failures import StoreCorruptError, StoreFullError
from models.retention import LifecycleStep, RetentionPolicy
from models.tables.columns import JsonText, UtcDateTime
from models.tables.deployment_logs import (
    DeploymentLogsArchive,
    DeploymentOperation,
    EnvironmentValidation,
    OperationStepRow,
    ServiceStateChange,
)
from models.tables.errors import (
    DeploymentError,
    ErrorImpact,
    ErrorsArchive,
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
    ProbeRow,
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

_FILE_ROWS = 250_000
_ROWS_WITH_CHILDREN = 1000
_PAGES_AT_ONCE = 256

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
        _archive_samples(run, to_ms(limits.monitoring), to_ms(limits.samples_over_budget))
        for row, moment in (
            (DeploymentHealth, "timestamp"),
            (ProbeRow, "checked_at"),
            (ServiceHealthScore, "timestamp"),
            (AlertRow, "resolved_at"),
        ):
            where = f"{moment} < {_literal(limits.monitoring)}"
            at_once = run.policy.chunk_rows // 4
            _archive_with_belongings(run, MonitoringArchive, row, where, _nothing_else, at_once)
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
        before = _literal(cutoffs(run.policy, now).errors)
        nobody_works_on_it = (
            "NOT EXISTS (SELECT 1 FROM manual_intervention_tickets t "
            "WHERE t.error_id = deployment_errors.error_id AND t.state <> 'resolved')"
        )
        where = f"resolved_at < {before} AND {nobody_works_on_it}"

        def belongings(owners: str) -> list[_Part]:
            of_errors = f"error_id IN (SELECT error_id FROM deployment_errors WHERE {owners})"
            tickets = f"SELECT ticket_id FROM manual_intervention_tickets WHERE {of_errors}"
            return [
                _Part(ErrorImpact, of_errors),
                _Part(RecoveryExecutionRow, of_errors),
                _Part(EvidenceRow, of_errors),
                _Part(TicketHistory, f"ticket_id IN ({tickets})"),
                _Part(TicketRow, of_errors),
            ]

        _archive_with_belongings(run, ErrorsArchive, DeploymentError, where, belongings)
        # Taken before a replacement that went well, so no error owns it.
        unowned = f"error_id IS NULL AND taken_at < {before}"
        _archive_with_belongings(run, ErrorsArchive, EvidenceRow, unowned, _nothing_else)
    return run.result()


def archive_deployments(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Archive and delete old operations with their state changes, validations and steps.

    Failed ones stay longer than successful ones, and the last success of each kind and environment stays.

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
        where = (
            f"((status = 'success' AND start_time < {_literal(limits.deployments)} AND {a_newer_success}) "
            f"OR (status = 'failed' AND start_time < {_literal(limits.failed_deployments)}))"
        )

        def belongings(owners: str) -> list[_Part]:
            of_them = f"deployment_id IN (SELECT deployment_id FROM deployment_operations WHERE {owners})"
            return [
                _Part(ServiceStateChange, of_them),
                _Part(EnvironmentValidation, of_them),
                _Part(OperationStepRow, of_them),
            ]

        _archive_with_belongings(run, DeploymentLogsArchive, DeploymentOperation, where, belongings)
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
                f"Store {name} ({database.path}) has faults: {'; '.join(faults)};",
                advice="stop the system and restore the last backup with `roas restore`.",
            )
        if not dry_run:
            with stores.gate.held(database.deadline_seconds, "Optimising"):
                database.analyse()
                database.checkpoint()
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
    for name, database in stores.databases.items():
        use = database.use()
        pages = pages_to_give_back(use, policy)
        before += use.file_bytes
        if pages and dry_run:
            after += use.file_bytes - pages * use.page_bytes
            continue
        if pages and database.gives_back_in_steps():
            _give_back(stores, database, pages, deadline)
        elif pages:
            notes.append(_rewrite(stores, name, database, use.used_bytes))
        after += database.use().file_bytes
    return LifecycleStep(
        name="vacuum",
        dry_run=dry_run,
        bytes_before=before,
        bytes_after=after,
        complete=time.monotonic() < deadline,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one table that leave together with others; `where` is SQL."""

    row: type[SQLModel]
    where: str


_Belongings = Callable[[str], list[_Part]]


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
    complete: bool = True
    policy: RetentionPolicy = field(init=False)
    database: SqliteDatabase = field(init=False)
    archiver: Archiver = field(init=False, default_factory=Archiver)
    deadline: float = field(init=False)
    bytes_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.policy = self.given_policy or RetentionPolicy()
        self.database = self.stores.databases[self.store]
        self.deadline = time.monotonic() + self.policy.step_time.total_seconds()
        self.bytes_before = self.database.use().used_bytes

    def __enter__(self) -> _Run:
        free = shutil.disk_usage(self.database.path.parent).free
        if free < self.policy.free_bytes and not self.dry_run:
            raise StoreFullError(
                f"Only {free} bytes are free beside {self.database.path}, {self.name} wants {self.policy.free_bytes};",
                advice="free room on its disk; what is old leaves at the next run.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.archiver.close()

    def has_time(self) -> bool:
        """Whether the step may begin another chunk."""
        self.complete = time.monotonic() < self.deadline
        return self.complete

    def result(self) -> LifecycleStep:
        """What was done."""
        return LifecycleStep(
            name=self.name,
            dry_run=self.dry_run,
            rows=dict(self.rows),
            archives=tuple(self.archives),
            bytes_before=self.bytes_before,
            bytes_after=self.database.use().used_bytes,
            complete=self.complete,
            notes=tuple(self.notes),
        )

    def file(self, source: str, first: str, last: str) -> Path:
        """Where an archive goes; the name follows from the rows, so a second try replaces the first."""
        return self.database.path.parent / "archive" / self.store / source / f"{first}-{last}.parquet"


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
        found = connection.exec_driver_sql(
            "SELECT series, ts, value FROM metric_samples WHERE ts >= ? AND ts < ?", (begin, end)
        ).all()
    groups: dict[tuple[int, int], list[float]] = defaultdict(list)
    for series, ts, value in found:
        groups[ts // _HOUR * _HOUR, series].append(value)
    rows = [
        {
            "bucket": bucket,
            "series": series,
            "n": len(values),
            "minimum": min(values),
            "maximum": max(values),
            "total": sum(values),
            "sketch": Sketch.of(values).to_bytes(),
        }
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
        rows.append(
            {
                "bucket": begin,
                "series": series,
                "n": sum(hour.n for hour in of_it),
                "minimum": min(hour.minimum for hour in of_it),
                "maximum": max(hour.maximum for hour in of_it),
                "total": sum(hour.total for hour in of_it),
                "sketch": sketch.to_bytes(),
            }
        )
    with run.database.write() as connection:
        upsert(connection, MetricDay, rows, keys=["bucket", "series"])


def _archive_samples(run: _Run, old: int, over_budget_before: int) -> None:
    if run.dry_run:
        with run.database.read() as connection:
            run.rows[_samples.name] += (
                connection.scalar(sa.select(sa.func.count()).select_from(_samples).where(_samples.c.ts < old)) or 0
            )
        return
    names = _series_names(run.database)
    while run.has_time():
        limit = over_budget_before if over_budget(run.database.use(), run.policy) else old
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


def _series_names(database: SqliteDatabase) -> dict[int, tuple[str, str, str]]:
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


def _archive_range(run: _Run, begin: int, end: int, names: dict[int, tuple[str, str, str]]) -> None:
    archived = run.archiver.write(
        run.database.path,
        f"SELECT ts, series, value FROM metric_samples WHERE ts >= {begin} AND ts < {end}",
        run.file(_samples.name, _stamp(begin), _stamp(end)),
        kinds={"ts": "whole", "series": "whole", "value": "real"},
        names=names,
    )
    _delete_range(run, begin, end, archived)


def _delete_range(run: _Run, begin: int, end: int, archived: Archived) -> None:
    """Delete the samples that were archived, in short transactions; a chunk that changed since stays.

    After a crash between two of them the rest goes into a second archive too; putting both back keeps each
    sample once.
    """
    chunks = _chunks(run, begin, end)
    if sum(rows for *_, rows in chunks) != archived.rows:
        # A sample came late into the range: the next archive of it has them all.
        return
    run.archives.append(str(archived.file))
    for place, (first, last, rows) in enumerate(chunks):
        try:
            with run.database.write() as connection:
                gone = connection.exec_driver_sql(
                    "DELETE FROM metric_samples WHERE ts >= ? AND ts < ?", (first, last)
                ).rowcount
                if gone != rows:
                    raise _Changed
                if place == 0:
                    _note(connection, MonitoringArchive, _samples.name, from_ms(begin), from_ms(end), archived)
        except _Changed:
            return
        run.rows[_samples.name] += rows
    # Without it the log of a busy store grows by all that was deleted.
    with run.stores.gate.held(run.database.deadline_seconds, run.name):
        run.database.checkpoint()


def _chunks(run: _Run, begin: int, end: int) -> list[tuple[int, int, int]]:
    """First moment, end and number of samples of ranges that are quickly deleted."""
    found = []
    with run.database.read() as connection:
        while begin < end:
            cut = connection.exec_driver_sql(
                "SELECT ts FROM metric_samples WHERE ts >= ? AND ts < ? ORDER BY ts LIMIT 1 OFFSET ?",
                (begin, end, run.policy.chunk_rows),
            ).scalar()
            last = end if cut is None else max(cut, begin + 1)
            rows = connection.exec_driver_sql(
                "SELECT count(*) FROM metric_samples WHERE ts >= ? AND ts < ?", (begin, last)
            ).scalar_one()
            found.append((begin, last, rows))
            begin = last
    return found


def _nothing_else(_: str) -> list[_Part]:
    return []


def _archive_with_belongings(
    run: _Run,
    archive: type[SQLModel],
    owner: type[SQLModel],
    where: str,
    belongings: _Belongings,
    rows_at_once: int = _ROWS_WITH_CHILDREN,
) -> None:
    name = table(owner).name
    if run.dry_run:
        with run.database.read() as connection:
            for part in (*belongings(where), _Part(owner, where)):
                count = f"SELECT count(*) FROM {table(part.row).name} WHERE {part.where}"
                run.rows[table(part.row).name] += connection.exec_driver_sql(count).scalar_one()
        return
    while run.has_time():
        chunk = f"SELECT id FROM {name} WHERE {where} ORDER BY id LIMIT {rows_at_once}"
        with run.database.read() as connection:
            first, last = connection.exec_driver_sql(f"SELECT min(id), max(id) FROM ({chunk})").one()
        if last is None:
            return
        owners = f"id <= {last} AND {where}"
        parts = [*belongings(owners), _Part(owner, owners)]
        archived = [_archive_part(run, part, f"{name}-{first}", str(last)) for part in parts]
        if not _delete_parts(run, archive, parts, archived):
            log.info("%s changed while it was archived; once more", name)


def _archive_part(run: _Run, part: _Part, first: str, last: str) -> Archived:
    target = table(part.row)
    columns = [column for column in target.columns if column.computed is None]
    listed = ", ".join(f'"{column.name}"' for column in columns)
    return run.archiver.write(
        run.database.path,
        f"SELECT {listed} FROM {target.name} WHERE {part.where} ORDER BY id",
        run.file(target.name, first, last),
        kinds={column.name: _kind(column) for column in columns},
    )


def _delete_parts(run: _Run, archive: type[SQLModel], parts: Sequence[_Part], archived: Sequence[Archived]) -> bool:
    """Delete exactly what was archived, or nothing: False where a row came or went since."""
    try:
        with run.database.write() as connection:
            for part, file in zip(parts, archived, strict=True):
                name = table(part.row).name
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
) -> None:
    values = {
        "file": "/".join(archived.file.parts[-3:]),
        "source": source,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "rows": archived.rows,
        "bytes": archived.size,
        "sha256": archived.sha256,
        "archived_at": datetime.now(UTC),
    }
    upsert(connection, archive, values, keys=["file"])


def _give_back(stores: Stores, database: SqliteDatabase, pages: int, deadline: float) -> None:
    while pages > 0 and time.monotonic() < deadline:
        with stores.gate.held(database.deadline_seconds, "Giving space back"):
            database.give_back(min(pages, _PAGES_AT_ONCE))
        pages -= _PAGES_AT_ONCE
    with stores.gate.held(database.deadline_seconds, "Giving space back"):
        database.checkpoint()


def _rewrite(stores: Stores, name: str, database: SqliteDatabase, used_bytes: int) -> str:
    free = shutil.disk_usage(database.path.parent).free
    if free < 2 * used_bytes:
        return f"{name} was not rewritten: that wants {2 * used_bytes} free bytes, the disk has {free}"
    with stores.gate.held(database.deadline_seconds, "Rewriting"):
        database.rewrite()
        database.checkpoint()
    return f"{name} was rewritten once, so that it can give back in steps from now on"


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
