"""A new store gets its tables by a script, which is what the migrations make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.stores.migrate import END_OF_STATEMENT, FOLDER, HEADS, make_new, migrate

WRITES = os.environ.get("ROAS_GOLDEN") == "write"
_AS_MADE = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
_FILLED = ("alembic_version", "cross_store_version")


def made(path: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{path}")


@pytest.mark.parametrize("store", HEADS)
def test_the_script_of_a_new_store_makes_what_the_migrations_make(store: str, tmp_path: Path) -> None:
    """After a change of a table: write it anew with ROAS_GOLDEN=write."""
    with made(tmp_path / "migrated.db").begin() as migrated:
        migrate(migrated, store)
        if WRITES:
            (FOLDER / f"{store}.sql").write_text(END_OF_STATEMENT.join(script_of(migrated)) + "\n")
        with made(tmp_path / "new.db").begin() as new:
            make_new(new, store)
            assert things(new) == things(migrated)
            for table in tables(migrated):
                number = f"SELECT count(*) FROM {table}"
                assert new.exec_driver_sql(number).scalar() == migrated.exec_driver_sql(number).scalar(), table
            for table in set(_FILLED) & set(tables(migrated)):
                rows = f"SELECT * FROM {table}"
                assert new.exec_driver_sql(rows).all() == migrated.exec_driver_sql(rows).all()


def things(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """Tables, indexes and triggers, however their text is spaced."""
    return [(kind, name, " ".join(sql.split())) for kind, name, sql in connection.exec_driver_sql(_AS_MADE).all()]


def tables(connection: sa.Connection) -> list[str]:
    return [name for kind, name, _ in connection.exec_driver_sql(_AS_MADE).all() if kind == "table"]


def script_of(connection: sa.Connection) -> list[str]:
    """Tables first, then what is on them, and the rows that a new store has."""
    order = {"table": 0, "index": 1, "view": 2, "trigger": 3}
    made_so = sorted(connection.exec_driver_sql(_AS_MADE).all(), key=lambda thing: (order[thing[0]], thing[1]))
    script = [
        "\n".join(line.rstrip() for line in sql.strip().splitlines())
        for _, name, sql in made_so
        if not name.startswith("sqlite_")
    ]
    for table in _FILLED:
        if table in tables(connection):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            script += [f"INSERT INTO {table} VALUES ({', '.join(map(repr, row))})" for row in rows]
    return script
