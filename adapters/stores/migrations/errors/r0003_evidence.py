"""Evidence that outlives the containers it was taken of.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "evidence_bundles",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("bundle_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("error_id", sa.Text(), nullable=True),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("occasion", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_cause", sa.Text(), nullable=False),
        sa.Column("cause_service", sa.Text(), nullable=False),
        sa.Column("parts", sa.Text(), nullable=True),
        sa.CheckConstraint("occasion IN ('replacement', 'failure')", name="occasion_is_known"),
        sa.ForeignKeyConstraint(
            ["error_id"],
            ["deployment_errors.error_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("bundle_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_evidence_bundles_deployment_id", "evidence_bundles", ["deployment_id"], unique=False)
    op.create_index("idx_evidence_bundles_error_id", "evidence_bundles", ["error_id"], unique=False)
    op.create_index("idx_evidence_bundles_taken_at", "evidence_bundles", ["taken_at"], unique=False)
    op.add_column("manual_intervention_tickets", sa.Column("evidence", sa.Text(), nullable=True))
