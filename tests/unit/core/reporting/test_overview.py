from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.reporting.overview import STALE_AFTER, judge_service, summarise
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.operations import Operation, OperationStatus, OperationType
from models.overview import EnvironmentRecords, VerdictLevel

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def report(overall: Health, *services: ServiceHealth) -> HealthReport:
    return HealthReport(
        environment="shop",
        overall=overall,
        checked_at=NOW - timedelta(hours=5),
        services=tuple(
            ServiceVerdict(service=f"s{place}", health=health, reason="") for place, health in enumerate(services)
        ),
    )


WELL = EnvironmentRecords(
    environment="shop", health=report(Health.HEALTHY, ServiceHealth.HEALTHY), checked_at=NOW - timedelta(minutes=1)
)


def with_health(overall: Health, *services: ServiceHealth) -> EnvironmentRecords:
    return EnvironmentRecords(environment="shop", health=report(overall, *services), checked_at=NOW)


@pytest.mark.parametrize(
    ("records", "words", "level"),
    [
        (WELL, "healthy", VerdictLevel.GOOD),
        (with_health(Health.DEGRADED, ServiceHealth.DEGRADED), "degraded", VerdictLevel.WARNING),
        (with_health(Health.UNHEALTHY, ServiceHealth.UNHEALTHY, ServiceHealth.STOPPED), "unhealthy", VerdictLevel.BAD),
        (with_health(Health.UNHEALTHY, ServiceHealth.STOPPED), "not started", VerdictLevel.OFF),
        (
            replace(with_health(Health.UNHEALTHY, ServiceHealth.STOPPED), proven_at=NOW - timedelta(days=1)),
            "unhealthy",
            VerdictLevel.BAD,
        ),
        (
            with_health(Health.HEALTHY, ServiceHealth.HEALTHY, ServiceHealth.UNPROVEN),
            "healthy (1 of 2 services not proven)",
            VerdictLevel.UNPROVEN,
        ),
        (with_health(Health.HEALTHY, ServiceHealth.UNPROVEN), "running (not proven)", VerdictLevel.UNPROVEN),
        (EnvironmentRecords(environment="shop"), "not known", VerdictLevel.UNKNOWN),
    ],
)
def test_an_environment_is_judged_in_words_and_by_level(
    records: EnvironmentRecords, words: str, level: VerdictLevel
) -> None:
    verdict = summarise(records, NOW).verdict

    assert (verdict.words, verdict.level) == (words, level)


def test_a_verdict_that_nothing_confirms_says_that_it_is_old() -> None:
    later = NOW + STALE_AFTER

    verdict = summarise(WELL, later).verdict

    assert (verdict.words, verdict.level) == ("healthy when last checked", VerdictLevel.UNKNOWN)


def test_what_was_stopped_on_request_needs_nobody_however_it_was_judged_before() -> None:
    records = EnvironmentRecords(
        environment="shop", health=report(Health.UNHEALTHY, ServiceHealth.STOPPED), checked_at=NOW, stopped_at=NOW
    )

    summary = summarise(records, NOW)

    assert (summary.verdict.words, summary.verdict.level) == ("stopped", VerdictLevel.OFF)
    assert not summary.needs_attention
    assert summary.up is None


def test_services_that_serve_are_counted_of_all() -> None:
    records = with_health(Health.UNHEALTHY, *ServiceHealth)

    summary = summarise(records, NOW)

    assert (summary.up, summary.services) == (4, len(ServiceHealth))
    assert (summarise(EnvironmentRecords(environment="shop"), NOW).up) is None


@pytest.mark.parametrize(
    ("status", "tickets", "needed"),
    [(OperationStatus.SUCCESS, 0, False), (OperationStatus.FAILED, 0, True), (OperationStatus.SUCCESS, 1, True)],
)
def test_a_failed_operation_or_an_open_ticket_needs_attention(
    status: OperationStatus, tickets: int, needed: bool
) -> None:
    operation = Operation(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        environment="shop",
        status=status,
        started_at=NOW,
        ended_at=NOW,
    )
    records = EnvironmentRecords(
        environment="shop",
        health=WELL.health,
        checked_at=NOW,
        last_operation=operation,
        open_tickets=tickets,
    )

    assert summarise(records, NOW).needs_attention is needed


def test_every_health_of_a_service_has_a_level() -> None:
    assert {health: judge_service(health).level for health in ServiceHealth}.keys() == set(ServiceHealth)
