"""Make the table of snapshots of data.

Revision ID: r0002
"""

from alembic import op

from adapters.stores.migrate import add_missing
from models.tables.deployment_logs import DeploymentLogsRow

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Add the table, unless `r0001` made it."""
    add_missing(op.get_bind(), DeploymentLogsRow.metadata)
