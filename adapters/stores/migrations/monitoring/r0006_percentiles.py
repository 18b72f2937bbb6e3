"""Percentiles of hours and days as numbers that SQL can read, and views of them.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")

_MOMENT_SQLITE = "strftime('%Y-%m-%d %H:%M:%f', s.bucket / 1000.0, 'unixepoch')"
_MOMENT_POSTGRESQL = "(to_timestamp(s.bucket / 1000.0) AT TIME ZONE 'UTC')"


def upgrade() -> None:
    """Make what this revision adds."""
    moment = _MOMENT_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _MOMENT_SQLITE
    for view, table in (("metrics_by_hour", "metric_hours"), ("metrics_by_day", "metric_days")):
        for column in ("p50", "p95", "p99"):
            op.add_column(table, sa.Column(column, REAL, nullable=True))
        op.execute(
            f"CREATE VIEW {view} AS SELECT {moment} AS timestamp, m.environment, m.service, "
            "m.metric, s.n AS samples, s.minimum, s.total / s.n AS mean, s.p50, s.p95, s.p99, s.maximum\n"
            f"FROM {table} s JOIN metric_series m ON m.id = s.series"
        )
