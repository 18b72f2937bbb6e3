"""Make the tables of deployment_logs.db.

Revision ID: r0001
"""

from alembic import op

from adapters.stores.audit import begin_log
from adapters.stores.migrate import add_missing
from models.tables.deployment_logs import DeploymentLogsRow

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Make what the store lacks."""
    connection = op.get_bind()
    made = add_missing(connection, DeploymentLogsRow.metadata)
    if "cross_store_version" in made:
        op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    if "audit_log" in made:
        begin_log(connection, "deployment_logs")
