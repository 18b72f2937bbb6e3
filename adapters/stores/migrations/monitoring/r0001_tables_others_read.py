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
        "deployment_health_history",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("timestamp", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("overall_health", sa.Text(), nullable=False),
        sa.Column("services_total", sa.Integer(), nullable=True),
        sa.Column("services_healthy", sa.Integer(), nullable=True),
        sa.Column("services_degraded", sa.Integer(), nullable=True),
        sa.Column("services_unhealthy", sa.Integer(), nullable=True),
        sa.Column("system_load_avg", REAL, nullable=True),
        sa.Column("critical_alerts_count", sa.Integer(), nullable=True),
        sa.CheckConstraint("overall_health IN ('healthy', 'degraded', 'unhealthy')", name="overall_health_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "idx_deployment_id", "deployment_health_history", ["deployment_id"], unique=False, if_not_exists=True
    )
    op.create_index("idx_timestamp", "deployment_health_history", ["timestamp"], unique=False, if_not_exists=True)
    op.create_table(
        "performance_baselines",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("metric_name", sa.Text(), nullable=False),
        sa.Column("baseline_value", REAL, nullable=False),
        sa.Column("threshold_warning", REAL, nullable=True),
        sa.Column("threshold_critical", REAL, nullable=True),
        sa.Column("created_at", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("updated_at", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("service_name", "metric_name"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_table(
        "service_dependencies",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("service_name", sa.Text(), nullable=False),
        sa.Column("depends_on_service", sa.Text(), nullable=False),
        sa.Column("dependency_type", sa.Text(), nullable=False),
        sa.Column("health_impact", sa.Text(), nullable=False),
        sa.Column("last_check", sa.DateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'active'"), nullable=True),
        sa.CheckConstraint(
            "dependency_type IN ('required', 'optional', 'performance')", name="dependency_type_is_known"
        ),
        sa.CheckConstraint("health_impact IN ('critical', 'moderate', 'low')", name="health_impact_is_known"),
        sa.CheckConstraint("status IN ('active', 'inactive', 'failed')", name="status_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("service_name", "depends_on_service"),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
