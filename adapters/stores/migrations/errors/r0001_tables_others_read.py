"""The tables other programs read.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "deployment_errors",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("error_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("service_name", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("confidence", REAL, nullable=False),
        sa.Column("pattern_name", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("first_seen", sa.DateTime(), nullable=False),
        sa.Column("last_seen", sa.DateTime(), nullable=False),
        sa.Column("count", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("predictive", sa.Boolean(), server_default=sa.text("FALSE"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("error_id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_errors_deployment_id",
        "deployment_errors",
        ["deployment_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_errors_environment",
        "deployment_errors",
        ["environment", "last_seen"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_errors_last_seen",
        "deployment_errors",
        ["last_seen"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_errors_open",
        "deployment_errors",
        ["fingerprint"],
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_errors_resolved_at",
        "deployment_errors",
        ["resolved_at"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "error_patterns",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("pattern_name", sa.Text(), nullable=False),
        sa.Column("pattern_regex", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("auto_recovery_possible", sa.Boolean(), server_default=sa.text("FALSE"), nullable=True),
        sa.Column("recovery_script_path", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("last_matched", sa.DateTime(), nullable=True),
        sa.Column("match_count", sa.Integer(), server_default=sa.text("0"), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("pattern_name"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "auto_recovery_executions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("error_id", sa.Text(), nullable=False),
        sa.Column("recovery_strategy", sa.Text(), nullable=False),
        sa.Column("execution_start", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("execution_end", sa.DateTime(), nullable=True),
        sa.Column("success", sa.Boolean(), nullable=True),
        sa.Column("steps_executed", sa.Text(), nullable=True),
        sa.Column("final_status", sa.Text(), nullable=True),
        sa.Column("manual_intervention_required", sa.Boolean(), server_default=sa.text("FALSE"), nullable=True),
        sa.ForeignKeyConstraint(
            ["error_id"],
            ["deployment_errors.error_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "idx_auto_recovery_executions_error_id",
        "auto_recovery_executions",
        ["error_id"],
        unique=False,
        if_not_exists=True,
    )
    op.create_index(
        "idx_auto_recovery_executions_start",
        "auto_recovery_executions",
        ["execution_start"],
        unique=False,
        if_not_exists=True,
    )
    op.create_table(
        "error_impact_analysis",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("error_id", sa.Text(), nullable=False),
        sa.Column("impact_type", sa.Text(), nullable=False),
        sa.Column("affected_services", sa.Text(), nullable=True),
        sa.Column("estimated_recovery_time", sa.Integer(), nullable=True),
        sa.Column("business_impact", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.CheckConstraint("business_impact IN ('low', 'medium', 'high', 'critical')", name="business_impact_is_known"),
        sa.CheckConstraint(
            "impact_type IN ('service_down', 'performance_degraded', 'data_loss')",
            name="impact_type_is_known",
        ),
        sa.ForeignKeyConstraint(
            ["error_id"],
            ["deployment_errors.error_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "idx_error_impact_analysis_error_id",
        "error_impact_analysis",
        ["error_id"],
        unique=False,
        if_not_exists=True,
    )
