from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from models.health import Health, HealthReport
from models.metrics import Dependency, DependencyStatus
from models.operations import Operation, OperationStatus, OperationType
from models.records import EnvironmentStatus

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
START = Operation(
    deployment_id="dev-1",
    operation_type=OperationType.START,
    environment="dev",
    status=OperationStatus.SUCCESS,
    started_at=NOON,
)
HEALTH = HealthReport(environment="dev", overall=Health.HEALTHY, checked_at=NOON, services=())
THERE = Dependency(service="web", depends_on="bot", last_check=NOON)
GONE = Dependency(service="bot", depends_on="redis", status=DependencyStatus.FAILED, last_check=NOON)


def status(
    health: HealthReport | None, last_collection: datetime | None, *dependencies: Dependency
) -> EnvironmentStatus:
    return EnvironmentStatus(
        environment="dev",
        last_operation=START,
        running=(),
        health=health,
        open_errors=(),
        open_tickets=(),
        open_alerts=(),
        dependencies=dependencies,
        last_collection=last_collection,
    )


def test_health_was_seen_when_a_collection_found_it_unchanged() -> None:
    assert status(HEALTH, NOON + 4 * MINUTE).seen_at == NOON + 4 * MINUTE
    assert status(HEALTH, NOON - MINUTE).seen_at == NOON
    assert status(HEALTH, None).seen_at == NOON
    assert status(None, NOON).seen_at is None


def test_what_was_missing_before_all_was_judged_again_is_not_reported() -> None:
    assert status(HEALTH, NOON, THERE, GONE).missing == (GONE,)
    assert status(None, NOON, THERE, GONE).missing == (GONE,)
    assert status(replace(HEALTH, checked_at=NOON + MINUTE), NOON, GONE).missing == ()


def test_an_operation_is_typed_where_a_person_asked_with_a_command_and_no_program_did() -> None:
    def typed(asked: str) -> bool:
        return replace(START, user_agent=asked).typed

    assert typed("person: ann (roas start)")
    others = ("schedule", "Prefect UI or API", "person: ann", "person: ann (roas start, asked by MCP client x)")
    assert not any(map(typed, others))
