"""Who asked for an operation, and an audit log that is chained by hash; it covers the operations that are there.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

from adapters.stores.audit import begin_log

revision = "0005"
down_revision = "0004"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "audit_log",
        sa.Column("seq", _BIG, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        *_who(),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    for table in ("deployment_operations",):
        for column in _who():
            op.add_column(table, column)
    begin_log(op.get_bind(), "deployment_logs")


def _who() -> list[sa.Column[object]]:
    """Who asked: by the kernel's user id, its name, the id that logged in, and the name that was claimed."""
    return [
        sa.Column("asked_uid", _BIG, nullable=True),
        sa.Column("asked_user", sa.Text(), nullable=True),
        sa.Column("login_uid", _BIG, nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
    ]
