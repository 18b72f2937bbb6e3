"""Index the health scores by time: the newest ones of all environments are read together.

Revision ID: r0003
"""

from alembic import op

revision = "r0003"
down_revision = "r0002"


def upgrade() -> None:
    """Add the index."""
    op.execute("CREATE INDEX IF NOT EXISTS idx_service_health_scores_timestamp ON service_health_scores (timestamp)")
