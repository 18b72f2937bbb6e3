"""Make the tables of monitoring.db, and views of its metrics that other programs can read.

Revision ID: r0001
"""

from alembic import op

from adapters.stores.migrate import add_missing
from models.tables.monitoring import MonitoringRow

revision = "r0001"
down_revision = None

_HOST_METRICS = (
    *("cpu_usage", "cpu_seconds_total", "load_1m", "load_5m", "memory_usage", "disk_usage", "disk_free_bytes"),
    *("inodes_usage", "inodes_free", "network_rx_bytes_total", "network_tx_bytes_total"),
    *("pressure_cpu", "pressure_memory", "pressure_io", "store_bytes"),
)
_SERVICE_METRICS = (
    *("cpu_usage", "cpu_seconds_total", "memory_usage", "memory_bytes", "response_time", "restarts_total"),
    *("processes", "throttled_periods_total", "network_rx_bytes_total", "network_tx_bytes_total"),
    *("block_read_bytes_total", "block_write_bytes_total", "certificate_days"),
)


def upgrade() -> None:
    """Make what the store lacks, and the views."""
    connection = op.get_bind()
    made = add_missing(connection, MonitoringRow.metadata)
    if "cross_store_version" in made:
        op.execute("INSERT INTO cross_store_version (id, seq) VALUES (1, 0)")
    for name, query in _views(postgresql=connection.dialect.name == "postgresql").items():
        op.execute(f"DROP VIEW IF EXISTS {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")


def _views(*, postgresql: bool) -> dict[str, str]:
    def moment(column: str) -> str:
        if postgresql:
            return f"(to_timestamp(s.{column} / 1000.0) AT TIME ZONE 'UTC')"
        return f"strftime('%Y-%m-%d %H:%M:%f', s.{column} / 1000.0, 'unixepoch')"

    def wide(subject: str, where: str, metrics: tuple[str, ...]) -> str:
        columns = ",\n    ".join(f"max(CASE m.metric WHEN '{name}' THEN s.value END) AS {name}" for name in metrics)
        return (
            f"SELECT {moment('ts')} AS timestamp, m.environment{subject},\n    {columns}\n"
            f"FROM metric_samples s JOIN metric_series m ON m.id = s.series WHERE m.service {where} 'host'\n"
            f"GROUP BY s.ts, m.environment{subject}"
        )

    def sums_view(table: str) -> str:
        return (
            f"SELECT {moment('bucket')} AS timestamp, m.environment, m.service, "
            "m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum\n"
            f"FROM {table} s JOIN metric_series m ON m.id = s.series"
        )

    return {
        "metrics": (
            f"SELECT {moment('ts')} AS timestamp, s.ts, m.environment, m.service, m.metric, s.value\n"
            "FROM metric_samples s JOIN metric_series m ON m.id = s.series"
        ),
        "system_metrics": wide("", "=", _HOST_METRICS),
        "service_metrics": wide(", m.service", "<>", _SERVICE_METRICS),
        "metrics_by_hour": sums_view("metric_hours"),
        "metrics_by_day": sums_view("metric_days"),
    }
