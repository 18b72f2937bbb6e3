"""Stores that look as if an application had been run for a year: to walk the life cycle as a user, and to break it.

    python -m tests.integration.stores.year FOLDER [--days 365] [--services 5] [--minutes 15]

Starts every six hours, one of seven failed of an error that was resolved two hours later, one of fifty never;
health, probes and samples every so many minutes.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from adapters.stores import Stores
from adapters.stores.repositories.metrics import to_ms
from adapters.stores.series import series_ids
from adapters.stores.sql import table
from models.settings import Settings
from models.tables.deployment_logs import DeploymentOperation, OperationStepRow, ServiceStateChange
from models.tables.errors import DeploymentError, ErrorImpact, EvidenceRow, RecoveryExecutionRow, TicketRow
from models.tables.monitoring import DeploymentHealth, MetricSample, ProbeRow

METRICS = ("cpu_usage", "memory_bytes", "response_time", "restarts_total")
_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """How long it was, and how much of it there is."""

    now: datetime
    days: int = 365
    services: int = 5
    minutes: int = 15

    def moments(self, every: timedelta) -> Iterator[datetime]:
        moment = self.now - timedelta(days=self.days)
        while moment < self.now:
            yield moment
            moment += every


def fill(stores: Stores, year: Year) -> None:
    """Live the year."""
    operations, changes, steps = [], [], []
    errors, impacts, executions, tickets, evidence = [], [], [], [], []
    for place, at in enumerate(year.moments(timedelta(hours=6))):
        name, failed = f"prod-{place:06}", place % 7 == 3
        operations.append(
            {
                "deployment_id": name,
                "operation_type": "start",
                "environment": "prod",
                "status": "failed" if failed else "success",
                "start_time": at,
                "end_time": at + timedelta(seconds=20),
                "duration_ms": 20_000 + place % 1000,
                "user_agent": "schedule",
                "metadata": {"plan": {"id": name}, "reason": "web did not start" if failed else ""},
            }
        )
        for number in range(year.services):
            changes.append(
                {
                    "deployment_id": name,
                    "service_name": f"s{number}",
                    "new_state": "healthy",
                    "change_time": at,
                    "change_reason": "its own health check passes",
                }
            )
            steps.append({"deployment_id": name, "step": "proven", "service": f"s{number}", "finished_at": at})
        if not failed:
            continue
        resolved = None if place % 50 == 3 else at + timedelta(hours=2)
        error_id = f"err-{place:06}"
        errors.append(_error(error_id, name, at, resolved))
        impacts.append({"error_id": error_id, "impact_type": "service_down", "business_impact": "high"})
        executions.append({"error_id": error_id, "recovery_strategy": "free_port", "attempt_id": f"{error_id}#1"})
        evidence.append(_evidence(error_id, at))
        tickets.append(_ticket(error_id, at, resolved))
    _put(stores, "deployment_logs", DeploymentOperation, operations)
    _put(stores, "deployment_logs", ServiceStateChange, changes)
    _put(stores, "deployment_logs", OperationStepRow, steps)
    _put(stores, "errors", DeploymentError, errors)
    for row, rows in (
        (ErrorImpact, impacts), (RecoveryExecutionRow, executions), (TicketRow, tickets), (EvidenceRow, evidence)
    ):  # fmt: skip
        _put(stores, "errors", row, rows)
    _monitor(stores, year)


def _monitor(stores: Stores, year: Year) -> None:
    rng = random.Random(1)
    services = [f"s{number}" for number in range(year.services)]
    with stores.databases["monitoring"].write() as connection:
        ids = series_ids(connection, {("prod", service, metric) for service in services for metric in METRICS})
    health, probes, samples = [], [], []
    for at in year.moments(timedelta(minutes=year.minutes)):
        health.append({"timestamp": at, "overall_health": "healthy", "environment": "prod", "report": {"services": []}})
        for service in services:
            probes.append(
                {
                    "checked_at": at,
                    "environment": "prod",
                    "service": service,
                    "kind": "http",
                    "target": "http://:80",
                    "ok": True,
                    "detail": "200",
                }
            )
            samples += [
                {"ts": to_ms(at), "series": ids["prod", service, metric], "value": rng.lognormvariate(3, 1)}
                for metric in METRICS
            ]
    _put(stores, "monitoring", DeploymentHealth, health)
    _put(stores, "monitoring", ProbeRow, probes)
    _put(stores, "monitoring", MetricSample, samples)


def _error(error_id: str, deployment_id: str, at: datetime, resolved: datetime | None) -> dict[str, Any]:
    return {
        "error_id": error_id,
        "environment": "prod",
        "deployment_id": deployment_id,
        "service_name": "s0",
        "text": "bind: address already in use",
        "category": "port_conflict",
        "severity": "high",
        "strategy": "free_port",
        "confidence": 0.9,
        "reason": "the port is taken",
        "fingerprint": error_id,
        "source": "start",
        "first_seen": at,
        "last_seen": at,
        "resolved_at": resolved,
    }


def _ticket(error_id: str, at: datetime, resolved: datetime | None) -> dict[str, Any]:
    return {
        "ticket_id": f"T-{error_id}",
        "error_id": error_id,
        "fingerprint": error_id,
        "environment": "prod",
        "title": "free the port",
        "state": "resolved" if resolved else "open",
        "opened_at": at,
        "resolved_at": resolved,
    }


def _evidence(error_id: str, at: datetime) -> dict[str, Any]:
    return {
        "bundle_id": f"ev-{error_id}",
        "environment": "prod",
        "error_id": error_id,
        "service_name": "s0",
        "occasion": "failure",
        "taken_at": at,
        "reason": "s0 did not start",
        "first_cause": "its port is taken",
        "cause_service": "s0",
        "parts": {"logs": [{"service": "s0", "container": "s0", "lines": ["bind: address in use"] * 40}]},
    }


def _put(stores: Stores, store: str, row: type[SQLModel], rows: list[dict[str, Any]]) -> None:
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        with stores.databases[store].write() as connection:
            connection.execute(sa.insert(table(row)), rows[begin : begin + _ROWS_AT_ONCE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--services", type=int, default=5)
    parser.add_argument("--minutes", type=int, default=15)
    given = parser.parse_args()
    with Stores.open(Settings(data_dir=given.folder)) as stores:
        fill(
            stores,
            Year(now=datetime.now(UTC), days=given.days, services=given.services, minutes=given.minutes),
        )


if __name__ == "__main__":
    main()
