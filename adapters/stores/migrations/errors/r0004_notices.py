"""What people were told of an error, so that a restart tells nobody twice.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make what this revision adds."""
    op.add_column("deployment_errors", sa.Column("notices", sa.Integer(), server_default=sa.text("0"), nullable=True))
    op.add_column("deployment_errors", sa.Column("notified_at", sa.DateTime(), nullable=True))
    op.add_column("deployment_errors", sa.Column("notified_end", sa.DateTime(), nullable=True))
