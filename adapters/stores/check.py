"""How the stores are: whole or not, how large, how old, and when they will be full."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlmodel import SQLModel

from adapters.stores.database import Database
from adapters.stores.monitoring import from_ms, to_ms
from adapters.stores.stores import Stores
from core.retention import full_in
from models.failures import StoreCorruptError
from models.retention import RetentionPolicy
from models.tables.deployment_logs import DeploymentLogsRow
from models.tables.errors import ErrorsRow
from models.tables.monitoring import MonitoringRow
from models.upkeep import Backlog, StoreFigures, StoreReport

_BASES: dict[str, type[SQLModel]] = {
    "deployment_logs": DeploymentLogsRow,
    "monitoring": MonitoringRow,
    "errors": ErrorsRow,
}
_MOMENTS = {
    "deployment_operations": "start_time",
    "service_state_changes": "change_time",
    "environment_validations": "validation_time",
    "operation_steps": "finished_at",
    "deployment_health_history": "timestamp",
    "probe_results": "checked_at",
    "service_health_scores": "timestamp",
    "alerts": "opened_at",
    "metric_samples": "ts",
    "deployment_errors": "last_seen",
    "auto_recovery_executions": "execution_start",
}
"""The column that tells how old a row is, in the tables that grow."""


def check(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, *, thorough: bool = True
) -> list[StoreReport]:
    """Look at each store; `thorough` also reads every page and compares the schema with the tables.

    Raises:
        StoreError: A store cannot be read at all.
    """
    kept = stores.kept_aside()
    return [
        _report(stores, database, now, policy or RetentionPolicy(), kept[name], thorough=thorough)
        for name, database in stores.databases.items()
    ]


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
    metadata = _BASES[database.name].metadata
    positions, refused = metadata.tables["spool_positions"], metadata.tables["dead_letters"]
    with database.read() as connection:
        inside: dict[str, int] = dict(connection.execute(sa.select(positions.c.spool, positions.c.position)).all())
        letters = connection.scalar(sa.select(sa.func.count()).select_from(refused)) or 0
    waiting = 0
    for spool in (stores.folder / "spool").glob(f"{database.name}-*.spool"):
        # Once all of it is in the store, a flusher removes it.
        with suppress(FileNotFoundError):
            waiting += max(0, spool.stat().st_size - inside.get(spool.name, 0))
    return Backlog(waiting_bytes=waiting, dead_letters=letters)


def _oldest(database: Database) -> datetime | None:
    """By the tables that hold nearly all, whose moments are indexed."""
    columns = [
        _BASES[database.name].metadata.tables[name].columns[_MOMENTS[name]]
        for name in ("deployment_operations", "metric_samples", "probe_results", "deployment_errors")
        if name in _BASES[database.name].metadata.tables
    ]
    with database.read() as connection:
        found = [connection.scalar(sa.select(sa.func.min(column))) for column in columns]
    return min((from_ms(one) if isinstance(one, int) else one for one in found if one is not None), default=None)


def _report(
    stores: Stores, database: Database, now: datetime, policy: RetentionPolicy, kept: list[Path], *, thorough: bool
) -> StoreReport:
    use = database.use()
    faults = [*database.faults(), *_schema_faults(database)] if thorough else []
    faults += [f"it was damaged before, see `roas tickets`: {file} is kept" for file in kept]
    try:
        rows, oldest, lately = _counted(database, now)
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
        dead_letters=rows.get("dead_letters", 0),
        longest_wait_seconds=stores.waits.longest_seconds,
        faults=tuple(faults),
    )


def _counted(database: Database, now: datetime) -> tuple[dict[str, int], dict[str, datetime], int]:
    """Rows of each table, the oldest of each that grows, and how many came since yesterday."""
    rows: dict[str, int] = {}
    oldest: dict[str, datetime] = {}
    lately = 0
    with database.read() as connection:
        for target in _BASES[database.name].metadata.sorted_tables:
            rows[target.name] = connection.scalar(sa.select(sa.func.count()).select_from(target)) or 0
            if target.name in _MOMENTS:
                column = target.columns[_MOMENTS[target.name]]
                numbered = target.name == "metric_samples"
                yesterday = now - timedelta(days=1)
                first = connection.scalar(sa.select(sa.func.min(column)))
                if first is not None:
                    oldest[target.name] = from_ms(first) if numbered else first
                since = column >= (to_ms(yesterday) if numbered else yesterday)
                lately += connection.scalar(sa.select(sa.func.count()).select_from(target).where(since)) or 0
    return rows, oldest, lately


def _schema_faults(database: Database) -> list[str]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        found = compare_metadata(MigrationContext.configure(connection), _BASES[database.name].metadata)
    return [f"schema differs: {one}" for one in found if "remove_table" not in str(one)]
