"""Statements that both databases understand, built from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel


def table(row: type[SQLModel]) -> sa.Table:
    """The table behind a row."""
    return cast("sa.Table", row.__table__)  # type: ignore[attr-defined]


def upsert(
    connection: sa.Connection,
    row: type[SQLModel],
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
    keep: Sequence[str] = (),
) -> None:
    """Insert, or where the keys exist already overwrite every other given column but those to keep."""
    rows = [values] if isinstance(values, Mapping) else list(values)
    if not rows:
        return
    target = table(row)
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(target)
    changed = [name for name in rows[0] if name not in keys and name not in keep]
    if changed:
        statement = insert.on_conflict_do_update(
            index_elements=list(keys), set_={name: insert.excluded[name] for name in changed}
        )
    else:
        statement = insert.on_conflict_do_nothing(index_elements=list(keys))
    connection.execute(statement, [dict(one) for one in rows])


def insert_unless_there(
    connection: sa.Connection, row: type[SQLModel], values: Mapping[str, Any], *, keys: Sequence[str]
) -> bool:
    """Insert; False where a row with these keys was there already and stays as it is."""
    # Inline: without asking for the key, which would hide how many rows there were.
    insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table(row)).inline()
    unless = insert.values(**values).on_conflict_do_nothing(index_elements=list(keys))
    done = connection.execute(unless, execution_options={"preserve_rowcount": True})
    return done.rowcount == 1
