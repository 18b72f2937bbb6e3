"""Remove the hourly and daily sums of samples, which nothing reads; archives keep every sample.

Revision ID: r0004
"""

from alembic import op

revision = "r0004"
down_revision = "r0003"


def upgrade() -> None:
    """Remove the views and the tables, which a new store does not have."""
    for thing in ("VIEW IF EXISTS metrics_by_{}", "TABLE IF EXISTS metric_{}s"):
        for bucket in ("hour", "day"):
            op.execute(f"DROP {thing.format(bucket)}")
