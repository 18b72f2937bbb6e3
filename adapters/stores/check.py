"""How the stores are: whole or not, how large, how old, and when they will be full."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from adapters.stores.data_folder import narrow_access
from adapters.stores.database import Database
from adapters.stores.repositories.metrics import from_ms, to_ms
from adapters.stores.sql import metadata_of, table, tables_of
from adapters.stores.stores import Stores
from adapters.stores.transactions import Together
from adapters.stores.write_behind import waiting_bytes
from core.storage.retention import full_in
from models.failures import StoreCorruptError
from models.storage import MIB, Backlog, RetentionPolicy, StoreFigures, StoreReport
from models.tables.deployment_logs import DeploymentOperation
from models.tables.errors import DeploymentError, EvidenceRow
from models.tables.monitoring import DeploymentHealth

_NAMES_AT_ONCE = 500

MOMENTS = {
    "deployment_operations": "start_time",
    "service_state_changes": "change_time",
    "environment_validations": "validation_time",
    "operation_steps": "finished_at",
    "deployment_health_history": "timestamp",
    "probe_results": "checked_at",
    "service_health_scores": "timestamp",
    "alerts": "opened_at",
    "metric_samples": "ts",
    "predictions": "made_at",
    "reports": "made_at",
    "releases": "created_at",
    "snapshots": "begun_at",
    "scheduled_runs": "due_at",
    "deployment_errors": "last_seen",
    "error_impact_analysis": "created_at",
    "evidence_bundles": "taken_at",
    "auto_recovery_executions": "execution_start",
    "manual_intervention_tickets": "opened_at",
    "ticket_history": "at",
    "audit_log": "at",
    "dead_letters": "buried_at",
}
"""The column that tells how old a row is, in the tables that grow."""


def check(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, *, thorough: bool = True
) -> list[StoreReport]:
    """Look at each store; `thorough` also reads every page and compares the schema with the tables.

    Raises:
        StoreError: A store cannot be read at all.
    """
    policy, damaged_files = policy or RetentionPolicy(), stores.kept_aside()
    strays = _strays(stores, now, policy) if thorough else {}
    reports = [
        replace(
            _report(stores, database, now, policy, damaged_files[name], thorough=thorough),
            remarks=(*strays.get(name, ()), *_left_beside(stores, name)),
        )
        for name, database in stores.databases.items()
    ]
    return [_with_access(stores, reports[0]), *reports[1:]] if thorough else reports


def _with_access(stores: Stores, report: StoreReport) -> StoreReport:
    """The report of the first store also tells who may read the folder that all of them share."""
    access = narrow_access(stores.folder, thorough=True)
    narrowed = filter(None, (stores.access.what_was_narrowed, access.what_was_narrowed))
    return replace(
        report, faults=(*report.faults, *access.faults), remarks=(*report.remarks, *narrowed, *access.remarks)
    )


def _strays(stores: Stores, now: datetime, policy: RetentionPolicy) -> dict[str, list[str]]:
    """Rows that name an operation or an error of another store that is not there, and not too old to be."""
    remarks: dict[str, list[str]] = {}
    since = now - min(policy.deployments, policy.errors)
    # A damaged store has its own report; the others are still checked.
    with suppress(StoreCorruptError), stores.read_one_moment() as moment:
        for name, source, when in (
            ("errors", table(DeploymentError), "last_seen"),
            ("errors", table(EvidenceRow), "taken_at"),
            ("monitoring", table(DeploymentHealth), "timestamp"),
        ):
            query = sa.select(source.c.deployment_id).where(
                source.c.deployment_id.is_not(None), source.columns[when] >= since
            )
            with moment.databases[name].read() as connection:
                named = set(connection.scalars(query.distinct()))
            missing_ids = sorted(named - _known_tables(moment, named))
            if missing_ids:
                some = f"{', '.join(missing_ids[:3])}{' …' if len(missing_ids) > 3 else ''}"
                remarks.setdefault(name, []).append(
                    f"{source.name} names {len(missing_ids)} operations that deployment_logs does not know: {some}"
                )
    return remarks


def _known_tables(moment: Together, deployment_ids: Iterable[str]) -> set[str]:
    names, recorded_ids = sorted(deployment_ids), set[str]()
    key = table(DeploymentOperation).c.deployment_id
    with moment.databases["deployment_logs"].read() as connection:
        for begin in range(0, len(names), _NAMES_AT_ONCE):
            recorded_ids |= set(
                connection.scalars(sa.select(key).where(key.in_(names[begin : begin + _NAMES_AT_ONCE])))
            )
    return recorded_ids


def _left_beside(stores: Stores, name: str) -> list[str]:
    """Files that stand beside a store for a person to look at, and archives that are gone."""
    remarks = [
        f"{file} is kept since a backup was restored: inspect it, then remove it ({file.stat().st_size / MIB:.1f} MiB)"
        for file in sorted(stores.folder.glob(f"{name}.db.before-restore-*"))
        if not file.name.endswith(("-wal", "-shm"))
    ]
    noted: list[str] = []
    with suppress(StoreCorruptError), stores.databases[name].read() as connection:
        noted += connection.scalars(sa.select(tables_of(name)["archives"].c.file)).all()
    missing_files = [file for file in noted if not (stores.folder / "archive" / file).exists()]
    if missing_files:
        remarks.append(
            f"{len(missing_files)} archives are gone, such as {missing_files[0]}: restore them from a backup"
        )
    return remarks


def figures(database: Database) -> StoreFigures:
    """A store's size and age, cheap enough to be asked for every few seconds.

    Raises:
        StoreError: The store cannot be read.
    """
    return StoreFigures(store=database.name, bytes=database.sizes(), oldest=_oldest(database))


def backlog(stores: Stores, database: Database) -> Backlog:
    """What waits to go into a store, and what it refused.

    Raises:
        StoreError: The store cannot be read.
    """
    refused = tables_of(database.name)["dead_letters"]
    with database.read() as connection:
        letters = connection.scalar(sa.select(sa.func.count()).select_from(refused)) or 0
    waiting = waiting_bytes(stores.rows_folder) if database.name == "monitoring" else 0
    return Backlog(waiting_bytes=waiting, dead_letters=letters)


def _oldest(database: Database) -> datetime | None:
    """By the tables that hold nearly all, whose moments are indexed."""
    tables = tables_of(database.name)
    large = ("deployment_operations", "metric_samples", "probe_results", "deployment_errors")
    columns = [tables[name].columns[MOMENTS[name]] for name in large if name in tables]
    with database.read() as connection:
        moments = [connection.scalar(sa.select(sa.func.min(column))) for column in columns]
    return min(
        (from_ms(moment) if isinstance(moment, int) else moment for moment in moments if moment is not None),
        default=None,
    )


def _report(
    stores: Stores,
    database: Database,
    now: datetime,
    policy: RetentionPolicy,
    damaged_files: list[Path],
    *,
    thorough: bool,
) -> StoreReport:
    use = database.use()
    faults = [f"it was damaged before, see `roas tickets`: {file} is kept" for file in damaged_files]
    try:
        faults += [*database.faults(), *_schema_faults(database)] if thorough else []
        rows, oldest, lately = _count_rows(database, now)
    except StoreCorruptError as error:
        # The other stores are still to be reported on.
        rows, oldest, lately = {}, {}, 0
        faults.append(str(error))
    growth = use.used_bytes * lately / max(1, sum(rows.values()))
    return StoreReport(
        store=database.name,
        place=database.place,
        file_bytes=use.file_bytes,
        used_bytes=use.used_bytes,
        wal_bytes=database.sizes().get("wal", 0),
        rows=rows,
        oldest=oldest,
        growth_bytes_per_day=growth,
        full_in=full_in(use, policy, growth),
        budget_bytes=policy.store_bytes,
        dead_letters=rows.get("dead_letters", 0),
        longest_wait_seconds=stores.waits.longest_seconds,
        faults=tuple(faults),
    )


def _count_rows(database: Database, now: datetime) -> tuple[dict[str, int], dict[str, datetime], int]:
    """Rows of each table, the oldest of each that grows, and how many came since yesterday."""
    rows: dict[str, int] = {}
    oldest: dict[str, datetime] = {}
    lately = 0
    with database.read() as connection:
        for target in metadata_of(database.name).sorted_tables:
            rows[target.name] = connection.scalar(sa.select(sa.func.count()).select_from(target)) or 0
            if target.name in MOMENTS:
                column = target.columns[MOMENTS[target.name]]
                numbered = target.name == "metric_samples"
                yesterday = now - timedelta(days=1)
                first = connection.scalar(sa.select(sa.func.min(column)))
                if first is not None:
                    oldest[target.name] = from_ms(first) if numbered else first
                since = column >= (to_ms(yesterday) if numbered else yesterday)
                lately += connection.scalar(sa.select(sa.func.count()).select_from(target).where(since)) or 0
    return rows, oldest, lately


_BESIDE = ("written_by", "day", "ok")
"""Row-level security adds the first column where hosts are restricted; an early SQLite keeps the others (r0004)."""


def schema_differences(connection: sa.Connection, store: str) -> list[Any]:
    """What Alembic finds between a store and its tables' classes; an index may be one of a single dialect."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def is_wanted(thing: sa.schema.SchemaItem, name: str | None, *_: object) -> bool:
        dialect = connection.dialect.name
        return bool(name not in _BESIDE and thing.info.get("dialect", dialect) == dialect)

    context = MigrationContext.configure(connection, opts={"include_object": is_wanted})
    return list(compare_metadata(context, metadata_of(store)))


def _schema_faults(database: Database) -> list[str]:
    with database.read() as connection:
        differences = schema_differences(connection, database.name)
    return [f"schema differs: {difference}" for difference in differences if "remove_table" not in str(difference)]
