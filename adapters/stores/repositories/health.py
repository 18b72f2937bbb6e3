"""Health reports, probe results and health scores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository, Rows, newest, newest_by_environment, newest_of_each
from adapters.stores.sql import insert_missing, insert_unless_same, run_text, table
from models.analysis import AnswersOfDay, Share
from models.health import HealthReport, ProbeResult, RecordedScore, ServiceHealth
from models.tables.columns import read_utc_text, utc_text
from models.tables.monitoring import DeploymentHealth, ProbeRow, ServiceHealthScore

_LATEST = timedelta(minutes=15)
_health = table(DeploymentHealth)
_NEWEST = ("timestamp", "id")
_scores = table(ServiceHealthScore)
_probes = table(ProbeRow)
_health_rows = Rows(
    DeploymentHealth,
    HealthReport,
    overall="overall_health",
    checked_at="timestamp",
    system_load="system_load_avg",
    critical_alerts="critical_alerts_count",
)
score_rows = Rows(ServiceHealthScore, RecordedScore, scored_at="timestamp")


class ProbeCells(NamedTuple):
    """The cells of a row of probe_results, in the order of its columns."""

    checked_at: str
    environment: str
    service: str
    kind: str
    target: str
    ok: bool
    detail: str
    latency_ms: float | None


class HealthHistory(Repository):
    """Health reports, probe results and health scores."""

    def record(self, report: HealthReport) -> None:
        """Record how an environment was judged. A report that is already there is left as it is."""
        with self._database.write() as connection:
            put_health(connection, report)

    def history(
        self, environment: str | None = None, deployment_id: str | None = None, limit: int = 50
    ) -> list[HealthReport]:
        """The latest judgements, of one environment or one deployment where given; newest first."""
        query = newest(_health, "timestamp", environment=environment, deployment_id=deployment_id)
        return [_to_report(row) for row in self._all(query.limit(limit))]

    def latest_reports(self, since: datetime) -> dict[str, HealthReport]:
        """How every environment was judged last, of those that were judged since a moment."""
        recent = (_health.c.timestamp >= since, _health.c.environment.is_not(None))
        rows = self._all(newest_of_each(_health, ["environment"], ["timestamp", "id"], 1, *recent))
        return {row.environment: _to_report(row) for row in rows}

    def latest_judgements(self) -> dict[str, tuple[str, datetime]]:
        """How every environment was judged last, and when."""
        columns = (_health.c.environment, _health.c.overall_health, _health.c.timestamp)
        rows = self._all(newest_by_environment(_health, _NEWEST, *columns))
        return {row.environment: (row.overall_health, row.timestamp) for row in rows}

    def latest_of_each(self) -> dict[str, HealthReport]:
        """As `latest_judgements`, with the whole report."""
        return {row.environment: _to_report(row) for row in self._all(newest_by_environment(_health, _NEWEST))}

    def record_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Record what probes answered; an answer that is already there is left as it is."""
        self.put_probes([probe_cells(probe, environment) for probe in probes])

    def put_probes(self, rows: Sequence[ProbeCells]) -> None:
        """As `record_probes`, of any environments."""
        if not rows:
            return
        with self._database.write() as connection:
            moments = [row.checked_at for row in rows]
            there = run_text(connection, _ANY_BETWEEN, min(moments), max(moments)).first()
            # What happened at another moment is another answer, which none needs to be compared with.
            if there is None and len(set(moments)) == len(rows):
                run_text(connection, _INSERT_PROBE, list(rows))
                return
            answers = [row._asdict() | {"checked_at": read_utc_text(row.checked_at)} for row in rows]
            insert_missing(connection, ProbeRow, answers)

    def answers_by_day(self, environment: str, since: datetime) -> list[AnswersOfDay]:
        """How many answers of probes were good, for each service and UTC day since a moment, the oldest first.

        The database counts them: two years of answers are too many to read.
        """
        one, zero = (sa.literal_column(text, sa.Integer) for text in "10")
        # Constants in the text: PostgreSQL must see the same expression where it selects and where it groups.
        day = sa.func.substr(sa.cast(_probes.c.checked_at, sa.Text), one, sa.literal_column("10", sa.Integer))
        query = (
            sa.select(
                _probes.c.service,
                day.label("day"),
                sa.func.count().label("total"),
                sa.func.sum(sa.case((_probes.c.ok.is_(True), one), else_=zero)).label("good"),
            )
            .where(_probes.c.environment == environment, _probes.c.checked_at >= since)
            .group_by(_probes.c.service, day)
            .order_by(day, _probes.c.service)
        )
        return [
            AnswersOfDay(
                service=row.service,
                day=date.fromisoformat(row.day),
                share=Share(good=int(row.good), total=int(row.total)),
            )
            for row in self._all(query)
        ]

    def latest_scores(self, environment: str) -> list[RecordedScore]:
        """The newest score of each service that has one within 15 minutes of the environment's newest."""
        recent = self.scores(environment, limit=1)
        if not recent:
            return []
        query = sa.select(_scores).where(
            _scores.c.environment == environment, _scores.c.timestamp > recent[0].scored_at - _LATEST
        )
        rows = self._all(query.order_by(_scores.c.timestamp, _scores.c.id))
        last = {row.service: score_rows.to_value(row) for row in rows}
        return [last[name] for name in sorted(last)]

    def all_latest_scores(self, since: datetime) -> list[RecordedScore]:
        """As `latest_scores`, of every environment that was scored since a moment; by environment and service."""
        keys = ["environment", "service"]
        query = newest_of_each(_scores, keys, ["timestamp", "id"], 1, _scores.c.timestamp >= since)
        last: dict[str, list[RecordedScore]] = {}
        for score in map(score_rows.to_value, self._all(query)):
            last.setdefault(score.environment, []).append(score)
        return [
            score
            for _, scores in sorted(last.items())
            for newest_at in [max(score.scored_at for score in scores)]
            for score in sorted(scores, key=lambda score: score.service)
            if score.scored_at > newest_at - _LATEST
        ]

    def scores(self, environment: str, service: str | None = None, limit: int = 100) -> list[RecordedScore]:
        """The latest scores, newest first."""
        query = newest(_scores, "timestamp", environment=environment, service=service)
        return [score_rows.to_value(row) for row in self._all(query.limit(limit))]


_ANY_BETWEEN = "SELECT 1 FROM probe_results WHERE checked_at BETWEEN ? AND ? LIMIT 1"
_INSERT_PROBE = (
    f"INSERT INTO probe_results ({', '.join(ProbeCells._fields)}) "  # noqa: S608 - the names of its own fields
    f"VALUES ({', '.join('?' * len(ProbeCells._fields))})"
)


def probe_cells(probe: ProbeResult, environment: str) -> ProbeCells:
    """What a probe answered, as a row of an environment.

    Raises:
        ValueError: Its moment has no time zone.
    """
    return ProbeCells(
        utc_text(probe.checked_at),
        environment,
        probe.service,
        probe.kind,
        probe.target,
        probe.ok,
        probe.detail,
        probe.latency_ms,
    )


def put_health(connection: sa.Connection, report: HealthReport) -> None:
    """Record a health report unless it is already there."""
    values = _health_rows.to_row(
        report,
        services_total=len(report.services),
        services_healthy=report.count(ServiceHealth.HEALTHY, ServiceHealth.COMPLETED),
        services_degraded=report.count(ServiceHealth.DEGRADED, ServiceHealth.STARTING, ServiceHealth.UNKNOWN),
        services_unhealthy=report.count(ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED),
        report={"services": report.services, "findings": report.findings},
    )
    insert_unless_same(connection, DeploymentHealth, values, same=["environment", "timestamp"])


def _to_report(row: sa.Row[Any]) -> HealthReport:
    return _health_rows.to_value(row, **{"environment": row.environment or "", "services": ()} | (row.report or {}))
