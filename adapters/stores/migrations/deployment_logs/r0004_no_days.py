"""Remove the counts of operations by day, which nothing reads, and the columns and triggers that were for them.

Revision ID: r0004
"""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"

_DROPS_COLUMNS = (3, 35)
"""An earlier SQLite keeps the columns, which it computes where they are read and nowhere else."""


def upgrade() -> None:
    """Remove what a new store does not have."""
    connection = op.get_bind()
    postgresql = connection.dialect.name == "postgresql"
    for name in ("fill_day_and_ok", "count_operation", "uncount_operation") if postgresql else ():
        op.execute(f"DROP FUNCTION IF EXISTS {name} CASCADE")
    for event in () if postgresql else ("insert", "update", "again"):
        op.execute(f"DROP TRIGGER IF EXISTS operation_days_{event}")
    op.execute("DROP TABLE IF EXISTS operation_days")
    op.execute("DROP INDEX IF EXISTS idx_deployment_operations_day")
    columns = {column["name"] for column in sa.inspect(connection).get_columns("deployment_operations")}
    if postgresql or sqlite3.sqlite_version_info >= _DROPS_COLUMNS:
        for name in sorted(columns & {"day", "ok"}):
            op.execute(f"ALTER TABLE deployment_operations DROP COLUMN {name}")
