"""Make the tables of errors.db.

Revision ID: r0001
"""

from alembic import op

from adapters.stores.audit import begin_log
from adapters.stores.migrate import add_missing
from models.tables.errors import ErrorsRow

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Make what the store lacks."""
    connection = op.get_bind()
    made = add_missing(connection, ErrorsRow.metadata)
    if "cross_store_version" in made:
        op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    if "audit_log" in made:
        begin_log(connection, "errors")
