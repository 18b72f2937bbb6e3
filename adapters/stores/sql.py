"""Statements that both databases understand, built from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlmodel import SQLModel

Row: TypeAlias = "type[SQLModel] | sa.Table"


def metadata_of(store: str) -> sa.MetaData:
    """All tables of a store. A command imports those of the stores that it asks."""
    if store == "deployment_logs":
        from models.tables.deployment_logs import DeploymentLogsRow

        return DeploymentLogsRow.metadata
    if store == "monitoring":
        from models.tables.monitoring import MonitoringRow

        return MonitoringRow.metadata
    from models.tables.errors import ErrorsRow

    return ErrorsRow.metadata


def tables_of(store: str) -> Mapping[str, sa.Table]:
    """The tables of a store by name."""
    return metadata_of(store).tables


def table(row: Row) -> sa.Table:
    """The table behind a row."""
    return row if isinstance(row, sa.Table) else cast("sa.Table", row.__table__)  # type: ignore[attr-defined]


def insert(connection: sa.Connection, row: Row, values: Mapping[str, Any]) -> None:
    """Insert one row."""
    connection.execute(_insert(row), dict(values))


def upsert(
    connection: sa.Connection,
    row: Row,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
    keep: Sequence[str] = (),
) -> None:
    """Insert, or where the keys exist already overwrite every other given column but those to keep."""
    rows = [values] if isinstance(values, Mapping) else list(values)
    if not rows:
        return
    changed = tuple(name for name in rows[0] if name not in keys and name not in keep)
    statement = _insert_on_conflict(row, tuple(keys), changed, connection.dialect.name)
    connection.execute(statement, [dict(record) for record in rows])


def insert_unless_there(connection: sa.Connection, row: Row, values: Mapping[str, Any], *, keys: Sequence[str]) -> bool:
    """Insert; False where a row with these keys was there already and stays as it is."""
    statement = _insert_on_conflict(row, tuple(keys), (), connection.dialect.name)
    return connection.execute(statement, dict(values)).rowcount == 1


def insert_unless_same(connection: sa.Connection, row: Row, values: Mapping[str, Any], *, same: Sequence[str]) -> None:
    """Insert unless a row has the same values in these columns, which need no index."""
    there = sa.exists().where(*(table(row).c[name] == values[name] for name in same))
    if not connection.scalar(sa.select(there)):
        insert(connection, row, values)


def insert_missing(connection: sa.Connection, row: Row, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows that are not there yet with the same values in all columns given; an index should find them."""
    if rows:
        # Other names than those of columns, which an insertion would take for its own values.
        given = [{f"given_{name}": value for name, value in values.items()} for values in rows]
        connection.execute(_insert_missing(row, tuple(rows[0])), given)


def run_text(connection: sa.Connection, statement: str, *values: Any) -> sa.CursorResult[Any]:
    """Run a statement of the driver, with `?` for each value; for many rows, a list of their values is given."""
    if connection.dialect.name != "sqlite":
        statement = statement.replace("?", "%s")
    return connection.exec_driver_sql(statement, values[0] if values and isinstance(values[0], list) else values)


# Made once and kept: making a statement takes longer than carrying it out.


@lru_cache(maxsize=256)
def _insert(row: Row) -> sa.Insert:
    return sa.insert(table(row)).inline()


@lru_cache(maxsize=256)
def _insert_missing(row: Row, names: tuple[str, ...]) -> sa.Insert:
    target = table(row)
    given = {name: sa.bindparam(f"given_{name}", type_=target.c[name].type) for name in names}
    same = (
        target.c[name].is_not_distinct_from(value) if target.c[name].nullable else target.c[name] == value
        for name, value in given.items()
    )
    return sa.insert(target).inline().from_select(names, sa.select(*given.values()).where(~sa.exists().where(*same)))


@lru_cache(maxsize=256)
def _insert_on_conflict(
    row: Row, keys: tuple[str, ...], changed: tuple[str, ...], dialect: str
) -> sqlite.Insert | postgresql.Insert:
    made: sqlite.Insert | postgresql.Insert
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        made = insert_postgresql(table(row))
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        made = insert_sqlite(table(row))
    # Inline: without asking for the key, which would hide how many rows there were.
    made = made.inline().execution_options(preserve_rowcount=True)
    if not changed:
        return made.on_conflict_do_nothing(index_elements=list(keys))
    return made.on_conflict_do_update(index_elements=list(keys), set_={name: made.excluded[name] for name in changed})
