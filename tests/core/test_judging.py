"""What a health report leads to: who is to be blamed, and what changed since the last word."""

from __future__ import annotations

from datetime import UTC, datetime

from core.health import judge_environment
from core.judging import state_changes, worst_service
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def report(**services: ServiceHealth) -> HealthReport:
    verdicts = [
        ServiceVerdict(service=name, health=health, reason=f"it is {health}") for name, health in services.items()
    ]
    return judge_environment("shop", verdicts, now=NOON)


def test_an_environment_without_services_is_blamed_itself() -> None:
    nothing = report()
    assert nothing.overall is Health.UNHEALTHY
    blamed = worst_service(nothing)
    assert (blamed.service, blamed.health) == ("shop", ServiceHealth.UNKNOWN)
    assert "no service" in blamed.reason


def test_only_a_state_that_differs_from_the_last_word_is_a_change() -> None:
    seen = report(db=ServiceHealth.HEALTHY, bot=ServiceHealth.STOPPED, new=ServiceHealth.UNPROVEN)
    changes = state_changes(seen, {"db": "healthy", "bot": "healthy"}, "check-1")
    assert [(one.service, one.previous_state, one.new_state) for one in changes] == [
        ("bot", "healthy", "stopped"),
        ("new", None, "unproven"),
    ]
    assert {one.deployment_id for one in changes} == {"check-1"}
    assert changes[0].reason == "it is stopped"
    assert changes[0].changed_at == NOON
