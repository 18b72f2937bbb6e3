"""Health reports, probe results and health scores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import insert, table
from models.health import Health, HealthReport, ProbeResult, ServiceHealth
from models.records import RecordedScore
from models.tables.monitoring import DeploymentHealth, ProbeRow, ServiceHealthScore

_LATEST = timedelta(minutes=15)
_health = table(DeploymentHealth)
_scores = table(ServiceHealthScore)
_probes = table(ProbeRow)
_health_report = TypeAdapter(HealthReport)


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
        query = sa.select(_health).order_by(_health.c.timestamp.desc(), _health.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_health.c.environment == environment)
        if deployment_id is not None:
            query = query.where(_health.c.deployment_id == deployment_id)
        with self._database.read() as connection:
            return [_to_report(row) for row in connection.execute(query)]

    def record_probes(self, probes: Sequence[ProbeResult], environment: str) -> None:
        """Record what probes answered."""
        if not probes:
            return
        rows = [probe_row(one, environment) for one in probes]
        with self._database.write() as connection:
            connection.execute(sa.insert(_probes), rows)

    def probes(self, environment: str, service: str | None = None, limit: int = 100) -> list[ProbeResult]:
        """The latest probe answers, newest first."""
        query = sa.select(_probes).where(_probes.c.environment == environment)
        if service is not None:
            query = query.where(_probes.c.service == service)
        newest = query.order_by(_probes.c.checked_at.desc(), _probes.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                ProbeResult(
                    service=row.service,
                    kind=row.kind,
                    target=row.target,
                    ok=row.ok,
                    detail=row.detail,
                    checked_at=row.checked_at,
                    latency_ms=row.latency_ms,
                )
                for row in connection.execute(newest)
            ]

    def record_score(self, score: RecordedScore) -> None:
        """Record a service's health score."""
        with self._database.write() as connection:
            insert(connection, ServiceHealthScore, score_row(score))

    def latest_scores(self, environment: str) -> list[RecordedScore]:
        """The newest score of each service that has one within 15 minutes of the environment's newest."""
        recent = self.scores(environment, limit=1)
        if not recent:
            return []
        query = sa.select(_scores).where(
            _scores.c.environment == environment, _scores.c.timestamp > recent[0].scored_at - _LATEST
        )
        newest: dict[str, RecordedScore] = {}
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(_scores.c.timestamp, _scores.c.id)):
                newest[row.service] = _to_score(row)
        return [newest[name] for name in sorted(newest)]

    def scores(self, environment: str, service: str | None = None, limit: int = 100) -> list[RecordedScore]:
        """The latest scores, newest first."""
        query = sa.select(_scores).where(_scores.c.environment == environment)
        if service is not None:
            query = query.where(_scores.c.service == service)
        newest = query.order_by(_scores.c.timestamp.desc(), _scores.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_to_score(row) for row in connection.execute(newest)]


def probe_row(probe: ProbeResult, environment: str) -> dict[str, Any]:
    """The row of what a probe answered."""
    return {
        "checked_at": probe.checked_at,
        "environment": environment,
        "service": probe.service,
        "kind": probe.kind,
        "target": probe.target,
        "ok": probe.ok,
        "detail": probe.detail,
        "latency_ms": probe.latency_ms,
    }


def put_health(connection: sa.Connection, report: HealthReport) -> None:
    """Record a health report unless it is already there."""
    values = {
        "timestamp": report.checked_at,
        "deployment_id": report.deployment_id,
        "overall_health": report.overall.value,
        "services_total": len(report.services),
        "services_healthy": report.count(ServiceHealth.HEALTHY, ServiceHealth.COMPLETED),
        "services_degraded": report.count(
            ServiceHealth.DEGRADED, ServiceHealth.STARTING, ServiceHealth.UNPROVEN, ServiceHealth.UNKNOWN
        ),
        "services_unhealthy": report.count(ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED),
        "system_load_avg": report.system_load,
        "critical_alerts_count": report.critical_alerts,
        "environment": report.environment,
        "report": {"services": report.services, "findings": report.findings},
    }
    same = sa.exists().where(_health.c.environment == report.environment, _health.c.timestamp == report.checked_at)
    if not connection.scalar(sa.select(same)):
        insert(connection, DeploymentHealth, values)


def _to_report(row: sa.Row[Any]) -> HealthReport:
    details = row.report or {}
    return _health_report.validate_python(
        {
            "environment": row.environment or "",
            "overall": Health(row.overall_health),
            "checked_at": row.timestamp,
            "services": details.get("services", ()),
            "deployment_id": row.deployment_id,
            "system_load": row.system_load_avg,
            "critical_alerts": row.critical_alerts_count or 0,
            "findings": details.get("findings", ()),
        }
    )


def score_row(score: RecordedScore) -> dict[str, Any]:
    """Build the row of a health score."""
    return {
        "timestamp": score.scored_at,
        "environment": score.environment,
        "service": score.service,
        "score": score.score,
        "grade": score.grade,
        "parts": score.parts or None,
        "suggestions": list(score.suggestions),
    }


def _to_score(row: sa.Row[Any]) -> RecordedScore:
    return RecordedScore(
        environment=row.environment,
        service=row.service,
        score=row.score,
        grade=row.grade,
        scored_at=row.timestamp,
        parts=row.parts or {},
        suggestions=tuple(row.suggestions or ()),
    )
