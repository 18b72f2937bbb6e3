"""What a health report leads to: who is to be blamed, and what changed since the last word."""

from __future__ import annotations

from datetime import UTC, datetime

from core.errors.classify import as_failure, as_one_of_several
from core.monitoring.health import judge_environment, state_changes, worst_service
from models.errors import Category, Evidence, Severity, Strategy, Verdict
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def report(**services: ServiceHealth) -> HealthReport:
    verdicts = [
        ServiceVerdict(service=name, health=health, reason=f"it is {health}") for name, health in services.items()
    ]
    return judge_environment("shop", verdicts, now=NOON)


def test_an_environment_without_services_is_its_own_root() -> None:
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


def test_a_service_that_exited_with_0_is_restarted_and_other_benign_failures_are_investigated() -> None:
    benign = Verdict(
        category=Category.BENIGN, severity=Severity.LOW, strategy=Strategy.NONE, confidence=0.5, reason="It says so."
    )
    ended = as_failure(benign, "done", Evidence(exit_code=0, container_state="exited"))
    assert (ended.category, ended.strategy) == (Category.CONTAINER_EXITED, Strategy.RESTART_SERVICE)
    running = as_failure(benign, "done", Evidence(container_state="running"))
    assert (running.category, running.strategy) == (Category.UNKNOWN, Strategy.INVESTIGATE)


def test_services_that_fail_at_once_have_one_cause_whatever_each_of_them_says() -> None:
    said = [
        Verdict(category=category, severity=Severity.HIGH, strategy=Strategy.RESTART_SERVICE, confidence=0.9,
                reason=words, pattern_name=words, template=words)
        for category, words in ((Category.CONTAINER_EXITED, "exited"), (Category.DEPENDENCY_REFUSED, "refused"))
    ]  # fmt: skip
    one, other = (as_one_of_several(verdict, 3) for verdict in said)
    assert one == other
    assert (one.category, one.strategy) == (Category.UNKNOWN, Strategy.INVESTIGATE)
