"""How far the samples of an archive have left, so that a deletion can go on after a crash.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what this revision adds."""
    op.add_column("archives", sa.Column("deleted_to", BIG, nullable=True))
