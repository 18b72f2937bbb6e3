"""Which alert is the cause of another, what was predicted and what became of it, and the daily reports.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")


def upgrade() -> None:
    """Make what this revision adds."""
    op.add_column("alerts", sa.Column("explained_by", sa.Text(), nullable=True))
    op.add_column("alerts", sa.Column("note", sa.Text(), nullable=True))
    op.create_table(
        "predictions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.Column("threshold", REAL, nullable=False),
        sa.Column("falling", sa.Boolean(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("expected", sa.DateTime(), nullable=False),
        sa.Column("earliest", sa.DateTime(), nullable=False),
        sa.Column("latest", sa.DateTime(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("scored_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("outcome IN ('open', 'hit', 'miss', 'averted')", name="outcome_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("prediction_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_predictions_environment", "predictions", ["environment", "outcome"], unique=False)
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_reports_environment", "reports", ["environment", "made_at"], unique=False)
