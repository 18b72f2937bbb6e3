"""What a recovery needs to be taken up again: its own id, its moments, and who lives it; the run a ticket waits in.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make what this revision adds."""
    op.add_column("auto_recovery_executions", sa.Column("attempt_id", sa.Text(), nullable=True))
    for moment in ("detected_at", "diagnosed_at", "acted_at", "verified_at"):
        op.add_column("auto_recovery_executions", sa.Column(moment, sa.DateTime(), nullable=True))
    op.add_column("auto_recovery_executions", sa.Column("details", sa.Text(), nullable=True))
    op.create_index("idx_auto_recovery_executions_attempt", "auto_recovery_executions", ["attempt_id"], unique=True)
    op.add_column("manual_intervention_tickets", sa.Column("since", sa.DateTime(), nullable=True))
    op.add_column("manual_intervention_tickets", sa.Column("flow_run_id", sa.Text(), nullable=True))
