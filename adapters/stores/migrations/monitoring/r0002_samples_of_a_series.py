"""Index the samples of each series in PostgreSQL, where those of thousands of environments lie between them.

Revision ID: r0002
"""

from alembic import op

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Add the index; a file has the environments of one host, and is read by time."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX IF NOT EXISTS idx_metric_samples_series ON metric_samples (series, ts)")
