"""Make the table of runs of schedules.

Revision ID: r0005
"""

from alembic import op

from adapters.stores.migrate import add_missing
from models.tables.deployment_logs import DeploymentLogsRow

revision = "r0005"
down_revision = "r0004"


def upgrade() -> None:
    """Add the table, unless `r0001` made it."""
    add_missing(op.get_bind(), DeploymentLogsRow.metadata)
