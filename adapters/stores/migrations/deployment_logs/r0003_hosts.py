"""Make the tables of hosts and of what belongs to them; operations and leases carry their host.

Revision ID: r0003
"""

from alembic import op

from adapters.stores.migrate import add_missing
from models.tables.deployment_logs import DeploymentLogsRow

revision = "r0003"
down_revision = "r0002"


def upgrade() -> None:
    """Add tables, columns and indexes, unless an earlier revision made them."""
    add_missing(op.get_bind(), DeploymentLogsRow.metadata)
