"""Bring a store to the schema this program uses: completely, or not at all."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from models.failures import StoreCorruptError, StoreError, StoreTooNewError

log = logging.getLogger("roas")

FOLDER = Path(__file__).parent / "migrations"

STORES = ("deployment_logs", "monitoring", "errors")

HEADS = {"deployment_logs": "r0005", "monitoring": "r0003", "errors": "r0002"}
"""The newest revision of each store. Opening a store that has it loads no migration library."""

LAST_BEFORE_RELEASE = {"deployment_logs": "0005", "monitoring": "0006", "errors": "0006"}
"""The revisions from before the first release, from 0001 up to these, were squashed into `r0001`."""

_SQUASHED_INTO = "r0001"

END_OF_STATEMENT = ";\n\n"
"""Between the statements of a script for a new store; a trigger has semicolons within."""

_REVISION = re.compile(r"r?[0-9]{4}")

_one_at_a_time = threading.Lock()
"""Alembic keeps what it upgrades in its modules, for one thread."""


def revision_of(connection: sa.Connection) -> str | None:
    """Read the revision of a store; None for a new one, or one that another program made."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def file_revision(path: Path) -> str | None:
    """The revision of a store's file, which is not opened for writing; None where it is not known.

    Raises:
        OSError: There is no such file.
    """
    path.stat()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        # Also of a file whose schema or rows are no text any more.
        return None
    return None if row is None else str(row[0])


def is_known(revision: str, store: str) -> bool:
    """Whether this program can open a store at a revision."""
    was_released = len(revision) == len(_SQUASHED_INTO) and _SQUASHED_INTO <= revision <= HEADS[store]
    return was_released or _was_squashed(revision, store)


def upgrade(connection: sa.Connection, store: str, *, may_change: bool = True) -> None:
    """Upgrade a store within the connection's open transaction; `may_change` False where this user may not.

    A file at the last revision from before the release has the schema of `r0001`. An earlier one, or a file that has
    only some of the tables, gets what it lacks.

    Raises:
        StoreTooNewError: A later version of this program made the store.
        StoreError: It must be upgraded, which is another user's to do.
    """
    at, head = revision_of(connection), HEADS[store]
    if at == head:
        return
    if at is not None and not _REVISION.fullmatch(at):
        raise StoreCorruptError(f"Store {store} is damaged: its revision reads {at!r};", advice="")
    if at is not None and not is_known(at, store):
        raise StoreTooNewError(
            f"Store {store} is newer than this program: it is at revision {at}, this program knows up to {head};",
            advice="install the later version of this program again, or restore a backup it can read.",
        )
    if not may_change:
        raise StoreError(
            f"Store {store} is at revision {at}, this program needs {head}, and a host may not upgrade it;",
            advice="install this version on the control plane first: its server upgrades the stores as it starts.",
        )
    if at == LAST_BEFORE_RELEASE[store]:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :at"), {"at": _SQUASHED_INTO})
        if head == _SQUASHED_INTO:
            return
    elif at is not None and _was_squashed(at, store):
        connection.execute(sa.text("DELETE FROM alembic_version"))
    log.info("store %s: %s", store, "making its tables" if at is None else f"upgrading from {at} to {head}")
    if connection.dialect.name == "sqlite" and not sa.inspect(connection).get_table_names():
        make_new(connection, store)
    else:
        migrate(connection, store)


def make_new(connection: sa.Connection, store: str) -> None:
    """Make the tables of an empty SQLite store as all migrations leave them: by one script, without their library."""
    from adapters.stores.audit import AUDITED, begin_log

    for statement in (FOLDER / f"{store}.sql").read_text().split(END_OF_STATEMENT):
        connection.exec_driver_sql(statement)
    if store in AUDITED:
        begin_log(connection, store)


def migrate(connection: sa.Connection, store: str) -> None:
    """Run the migrations that a store has not had."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("version_locations", str(FOLDER / store))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, "head")


def add_missing(connection: sa.Connection, tables: sa.MetaData) -> set[str]:
    """Make the tables, columns and indexes that a store lacks; the names of the tables that were made."""
    there = set(sa.inspect(connection).get_table_names())
    for table in tables.sorted_tables:
        if table.name not in there:
            table.create(connection)
            continue
        columns = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    return set(tables.tables) - there


def _was_squashed(revision: str, store: str) -> bool:
    return len(revision) == 4 and revision.isdecimal() and "0001" <= revision <= LAST_BEFORE_RELEASE[store]
