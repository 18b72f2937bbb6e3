"""What the program itself needs.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")


def upgrade() -> None:
    """Make what this revision adds."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("value", REAL, nullable=True),
        sa.Column("threshold", REAL, nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(), nullable=True),
        sa.Column("resolved_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity_is_known"),
        sa.CheckConstraint("state IN ('open', 'acknowledged', 'resolved')", name="state_is_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("alert_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_alerts_opened_at", "alerts", ["opened_at"], unique=False)
    op.create_index("idx_alerts_state", "alerts", ["state", "environment"], unique=False)
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
    op.add_column("deployment_health_history", sa.Column("environment", sa.Text(), nullable=True))
    op.add_column("deployment_health_history", sa.Column("report", sa.Text(), nullable=True))
    op.create_index(
        "idx_deployment_health_history_environment",
        "deployment_health_history",
        ["environment", "timestamp"],
        unique=False,
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "metric_days",
        sa.Column("bucket", BIG, autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("minimum", REAL, nullable=False),
        sa.Column("maximum", REAL, nullable=False),
        sa.Column("total", REAL, nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "series"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_hours",
        sa.Column("bucket", BIG, autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("minimum", REAL, nullable=False),
        sa.Column("maximum", REAL, nullable=False),
        sa.Column("total", REAL, nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "series"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_samples",
        sa.Column("ts", BIG, autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.PrimaryKeyConstraint("ts", "series"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_series",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("environment", "service", "metric"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "metric_states",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("environment", "service", "metric"),
    )
    op.add_column("performance_baselines", sa.Column("environment", sa.Text(), nullable=True))
    op.add_column("performance_baselines", sa.Column("service", sa.Text(), nullable=True))
    op.add_column(
        "performance_baselines",
        sa.Column("samples", sa.Integer(), server_default=sa.text("0"), nullable=True),
    )
    op.create_table(
        "probe_results",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("checked_at", sa.DateTime(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("latency_ms", REAL, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("idx_probe_results_checked_at", "probe_results", ["checked_at"], unique=False)
    op.create_index(
        "idx_probe_results_service", "probe_results", ["environment", "service", "checked_at"], unique=False
    )
    op.add_column("service_dependencies", sa.Column("environment", sa.Text(), nullable=True))
    op.add_column("service_dependencies", sa.Column("service", sa.Text(), nullable=True))
    op.create_table(
        "service_health_scores",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("timestamp", sa.DateTime(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("score", REAL, nullable=False),
        sa.Column("grade", sa.Text(), nullable=False),
        sa.Column("parts", sa.Text(), nullable=True),
        sa.Column("suggestions", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "idx_service_health_scores_service",
        "service_health_scores",
        ["environment", "service", "timestamp"],
        unique=False,
    )
    op.create_table(
        "spool_positions",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.PrimaryKeyConstraint("spool"),
    )
    moment = _MOMENT_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _MOMENT_SQLITE
    for view in _VIEWS:
        op.execute(view.format(moment=moment))


_MOMENT_SQLITE = "strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch')"
_MOMENT_POSTGRESQL = "(to_timestamp(s.ts / 1000.0) AT TIME ZONE 'UTC')"


def _wide(view: str, subject: str, where: str, metrics: tuple[str, ...]) -> str:
    columns = ",\n    ".join(f"max(CASE m.metric WHEN '{name}' THEN s.value END) AS {name}" for name in metrics)
    return (
        f"CREATE VIEW {view} AS SELECT {{moment}} AS timestamp, m.environment{subject},\n    {columns}\n"
        f"FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.service {where} 'host'\n"
        f"GROUP BY s.ts, m.environment{subject}"
    )


_LONG = """
CREATE VIEW metrics AS SELECT {moment} AS timestamp, s.ts, m.environment, m.service, m.metric, s.value
FROM metric_samples s JOIN metric_series m ON m.id = s.series
"""

_VIEWS = (
    _LONG,
    _wide(
        "system_metrics",
        "",
        "=",
        (
            "cpu_percent",
            "memory_percent",
            "disk_percent",
            "load_1m",
            "load_5m",
            "load_15m",
            "memory_available_bytes",
            "swap_used_bytes",
            "disk_free_bytes",
            "network_rx_bytes",
            "network_tx_bytes",
            "pressure_cpu",
            "pressure_memory",
            "pressure_io",
        ),
    ),
    _wide(
        "service_metrics",
        ", m.service",
        "<>",
        (
            "cpu_percent",
            "memory_percent",
            "memory_bytes",
            "response_time_ms",
            "network_rx_bytes",
            "network_tx_bytes",
            "block_read_bytes",
            "block_write_bytes",
            "processes",
            "restarts",
        ),
    ),
)
