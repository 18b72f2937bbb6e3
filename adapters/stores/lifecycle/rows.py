"""Archive and delete rows together with those that belong to them."""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from adapters.stores.archiver import Archived
from adapters.stores.audit import audit_archived
from adapters.stores.lifecycle.run import LifecycleRun, RowsChanged, archive_name
from adapters.stores.sql import tables_of
from models.tables.columns import JsonText, UtcDateTime

log = logging.getLogger("roas")
_ROW_BYTES = 24
_ROWS_TO_WEIGH = 500
_ROWS_WITH_CHILDREN = 1000


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows of one table that leave together with others; `where` is SQL."""

    table: str
    where: str


Belongings = Callable[[str], list[Partition]]


def no_belongings(_: str) -> list[Partition]:
    """No other rows belong to these."""
    return []


def archive_rows(
    run: LifecycleRun,
    name: str,
    where: str,
    belongings: Belongings = no_belongings,
    rows_at_once: int = _ROWS_WITH_CHILDREN,
    *,
    only_over_budget: bool = False,
) -> None:
    """Archive and delete rows of a table and what belongs to them, in chunks, until none is left or time is up."""
    if run.dry_run:
        # What would leave for its age is counted above; for the budget only as far as that is not enough.
        if not only_over_budget or run.over_budget():
            _foresee_rows(run, [*belongings(where), Partition(name, where)], rows_at_once, only_over_budget)
        return
    while run.has_time() and not (only_over_budget and not run.over_budget()):
        chunk = f"SELECT id FROM {name} WHERE {where} ORDER BY id LIMIT {rows_at_once}"
        with run.database.read() as connection:
            first, last = connection.exec_driver_sql(f"SELECT min(id), max(id) FROM ({chunk}) AS chunk").one()
        if last is None:
            return
        owners = f"id <= {last} AND {where}"
        parts = [*belongings(owners), Partition(name, owners)]
        archived = [_archive_part(run, part, f"{name}-{first}", str(last)) for part in parts]
        if not _delete_parts(run, parts, archived):
            log.info("%s changed while it was archived; once more", name)


def _foresee_rows(run: LifecycleRun, parts: Sequence[Partition], rows_a_file: int, only_over_budget: bool) -> None:
    for part in parts:
        target = tables_of(run.store)[part.table]
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


def _archive_part(run: LifecycleRun, part: Partition, first: str, last: str) -> Archived:
    target = tables_of(run.store)[part.table]
    columns = [column for column in target.columns if column.computed is None]
    listed = ", ".join(f'"{column.name}"' for column in columns)
    return run.archiver.write(
        run.database.archive_source,
        f"SELECT {listed} FROM {target.name} WHERE {part.where} ORDER BY id",
        run.file(target.name, first, last),
        kinds={column.name: _kind(column) for column in columns},
    )


def _delete_parts(run: LifecycleRun, parts: Sequence[Partition], archived: Sequence[Archived]) -> bool:
    """Delete exactly the archived rows, or none: False where a row came or went since."""
    try:
        with run.database.write() as connection:
            for part, file in zip(parts, archived, strict=True):
                audit_archived(connection, part.table, part.where, archive_name(file.file), file.sha256)
                gone = connection.exec_driver_sql(f"DELETE FROM {part.table} WHERE {part.where}").rowcount
                if gone != file.rows:
                    raise RowsChanged
                if gone:
                    now = datetime.now(UTC)
                    run.note_archive(connection, part.table, now, now, file)
    except RowsChanged:
        return False
    for part, file in zip(parts, archived, strict=True):
        if file.rows:
            run.archives.append(str(file.file))
            run.rows[part.table] += file.rows
        else:
            file.file.unlink()
    return True


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
