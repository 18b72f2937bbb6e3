"""Bring a store to the schema this program writes; the whole way or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa

from models.failures import StoreTooNewError

log = logging.getLogger("roas")

FOLDER = Path(__file__).parent / "migrations"

HEADS = {"deployment_logs": "0005", "monitoring": "0006", "errors": "0006"}
"""The newest revision of each store, so that opening a store that has it loads no migration machinery."""


def revision_of(connection: sa.Connection) -> str | None:
    """The revision a store is at; None where it has none (new, or made by another program)."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def upgrade(connection: sa.Connection, store: str) -> None:
    """Upgrade inside the connection's open transaction. A file that has only the tables is adopted.

    Raises:
        StoreTooNewError: A later version of this program made the store.
    """
    at = revision_of(connection)
    if at == HEADS[store]:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("version_locations", str(FOLDER / store))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if at is not None and at not in known:
        raise StoreTooNewError(
            f"Store {store} is at revision {at}, this program knows up to {HEADS[store]};",
            advice="install the later version of this program again, or restore a backup it can read.",
        )
    log.info("store %s: upgrading from %s to %s", store, at or "nothing", HEADS[store])
    command.upgrade(config, "head")
