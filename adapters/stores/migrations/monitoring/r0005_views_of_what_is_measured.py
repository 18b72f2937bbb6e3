"""The wide views name the metrics that are collected: those they were made with never were.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the views anew."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    moment = _MOMENT_POSTGRESQL if postgresql else _MOMENT_SQLITE
    for view in ("system_metrics", "service_metrics"):
        op.execute(f"DROP VIEW {view}")
    op.execute(_wide(moment, "system_metrics", "", "=", _OF_HOSTS))
    op.execute(_wide(moment, "service_metrics", ", m.service", "<>", _OF_SERVICES))


_MOMENT_SQLITE = "strftime('%Y-%m-%d %H:%M:%f', s.ts / 1000.0, 'unixepoch')"
_MOMENT_POSTGRESQL = "to_timestamp(s.ts / 1000.0) AT TIME ZONE 'UTC'"

_OF_HOSTS = (
    "cpu_usage",
    "cpu_seconds_total",
    "load_1m",
    "load_5m",
    "memory_usage",
    "disk_usage",
    "disk_free_bytes",
    "inodes_usage",
    "inodes_free",
    "network_rx_bytes_total",
    "network_tx_bytes_total",
    "pressure_cpu",
    "pressure_memory",
    "pressure_io",
    "store_bytes",
)
_OF_SERVICES = (
    "cpu_usage",
    "cpu_seconds_total",
    "memory_usage",
    "memory_bytes",
    "response_time",
    "restarts_total",
    "processes",
    "throttled_periods_total",
    "network_rx_bytes_total",
    "network_tx_bytes_total",
    "block_read_bytes_total",
    "block_write_bytes_total",
    "certificate_days",
)


def _wide(moment: str, view: str, subject: str, where: str, metrics: tuple[str, ...]) -> str:
    columns = ",\n    ".join(f"max(CASE m.metric WHEN '{name}' THEN s.value END) AS {name}" for name in metrics)
    return (
        f"CREATE VIEW {view} AS SELECT {moment} AS timestamp, m.environment{subject},\n    {columns}\n"
        f"FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.service {where} 'host'\n"
        f"GROUP BY s.ts, m.environment{subject}"
    )
