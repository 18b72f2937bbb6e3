"""What the program itself needs.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "archives",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("last", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("archived_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("file"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "cross_store_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("buried_at", sa.DateTime(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.add_column(
        "error_patterns",
        sa.Column("strategy", sa.Text(), server_default=sa.text("'investigate(manual)'"), nullable=True),
    )
    op.add_column("error_patterns", sa.Column("priority", sa.Integer(), server_default=sa.text("50"), nullable=True))
    op.add_column("error_patterns", sa.Column("enabled", sa.Boolean(), server_default=sa.text("TRUE"), nullable=True))
    op.add_column("error_patterns", sa.Column("shipped", sa.Boolean(), server_default=sa.text("FALSE"), nullable=True))
    op.create_table(
        "recovery_controls",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("environment", "service_name"),
    )
    op.create_table(
        "spool_positions",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.PrimaryKeyConstraint("spool"),
    )
    op.create_table(
        "manual_intervention_tickets",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.Text(), nullable=False),
        sa.Column("error_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service_name", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=True),
        sa.Column("tried", sa.Text(), nullable=True),
        sa.Column("affected_services", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("resolved_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'acknowledged', 'resolved')", name="state_is_known"),
        sa.ForeignKeyConstraint(
            ["error_id"],
            ["deployment_errors.error_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ticket_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "idx_manual_intervention_tickets_error_id", "manual_intervention_tickets", ["error_id"], unique=False
    )
    op.create_index(
        "idx_manual_intervention_tickets_fingerprint",
        "manual_intervention_tickets",
        ["fingerprint"],
        unique=False,
    )
    op.create_index(
        "idx_manual_intervention_tickets_open",
        "manual_intervention_tickets",
        ["fingerprint"],
        unique=True,
        sqlite_where=sa.text("state <> 'resolved'"),
        postgresql_where=sa.text("state <> 'resolved'"),
    )
    op.create_index(
        "idx_manual_intervention_tickets_state",
        "manual_intervention_tickets",
        ["state", "environment"],
        unique=False,
    )
    op.create_table(
        "ticket_history",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ticket_id"],
            ["manual_intervention_tickets.ticket_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_ticket_history_ticket_id", "ticket_history", ["ticket_id"], unique=False)
