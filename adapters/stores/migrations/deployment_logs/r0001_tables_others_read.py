"""The tables other programs read.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "deployment_operations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("operation_type", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_time", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("end_time", sa.DateTime(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "operation_type IN ('start', 'stop', 'restart', 'health_check')", name="operation_type_is_known"
        ),
        sa.CheckConstraint("status IN ('pending', 'running', 'success', 'failed')", name="status_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment_id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("idx_deployment_id", "deployment_operations", ["deployment_id"], unique=False, if_not_exists=True)
    op.create_index(
        "idx_deployment_operations_environment",
        "deployment_operations",
        ["environment", "start_time", "status"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index("idx_operation_type", "deployment_operations", ["operation_type"], unique=False, if_not_exists=True)
    op.create_index("idx_start_time", "deployment_operations", ["start_time"], unique=False, if_not_exists=True)
    op.create_index("idx_status", "deployment_operations", ["status"], unique=False, if_not_exists=True)
    op.create_table(
        "environment_validations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("validation_time", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("overall_result", sa.Boolean(), nullable=False),
        sa.Column("failed_checks", sa.Text(), nullable=True),
        sa.Column("validation_details", sa.Text(), nullable=True),
        sa.Column("recommendations", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment_operations.deployment_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "idx_environment_validations_deployment_id",
        "environment_validations",
        ["deployment_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "service_state_changes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("previous_state", sa.Text(), nullable=True),
        sa.Column("new_state", sa.Text(), nullable=False),
        sa.Column("change_time", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("change_reason", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment_operations.deployment_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("idx_change_time", "service_state_changes", ["change_time"], unique=False, if_not_exists=True)
    op.create_index("idx_service_name", "service_state_changes", ["service_name"], unique=False, if_not_exists=True)
    op.create_index(
        "idx_service_state_changes_deployment_id",
        "service_state_changes",
        ["deployment_id"],
        unique=False,
        if_not_exists=True,
    )
