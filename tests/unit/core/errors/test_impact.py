"""Impact: who is hit, how badly, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.errors.impact import add_experience, analyse_impact
from models.containers import ContainerState
from models.errors import BusinessImpact, Category, Impact, ImpactType, Severity, Strategy, Verdict
from models.metrics import Dependency, DependencyType, HealthImpact


def verdict(category: Category, severity: Severity = Severity.HIGH) -> Verdict:
    return Verdict(category=category, severity=severity, strategy=Strategy.INVESTIGATE, confidence=0.9, reason="seen")


def impact_of(verdict: Verdict, service: str, dependencies: tuple[Dependency, ...]) -> Impact:
    impact = analyse_impact(verdict, service, dependencies)
    assert impact is not None
    return impact


NOW = datetime.now(UTC)
NEEDS = (
    Dependency(service="bot", depends_on="redis"),
    Dependency(service="web", depends_on="bot"),
    Dependency(service="dashboard", depends_on="bot", dependency_type=DependencyType.OPTIONAL),
    Dependency(service="report", depends_on="dashboard"),
    Dependency(service="worker", depends_on="queue"),
)


def test_the_harm_goes_through_required_dependencies_only() -> None:
    impact = impact_of(verdict(Category.OOM_KILLED), "redis", NEEDS)

    # The dashboard degrades without the bot, so what needs the dashboard still has it.
    assert impact.affected_services == ("redis", "bot", "dashboard", "web")


def test_a_circle_of_dependencies_ends() -> None:
    circle = (Dependency(service="a", depends_on="b"), Dependency(service="b", depends_on="a"))

    assert impact_of(verdict(Category.OOM_KILLED), "a", circle).affected_services == ("a", "b")


def test_an_engine_that_is_down_hits_everything() -> None:
    impact = impact_of(verdict(Category.DOCKER_DAEMON_UNREACHABLE, Severity.CRITICAL), "web", NEEDS)

    assert set(impact.affected_services) == {"bot", "redis", "web", "dashboard", "report", "worker", "queue"}
    assert impact.business_impact is BusinessImpact.CRITICAL


def test_own_history_is_believed_before_what_is_usual() -> None:
    usual = impact_of(verdict(Category.CONTAINER_EXITED), "web", NEEDS)
    own = add_experience(impact_of(verdict(Category.CONTAINER_EXITED), "web", NEEDS), (4, 9, 300))

    assert usual.estimated_recovery_seconds == 180
    assert own.estimated_recovery_seconds == 9


def test_damaged_data_is_critical() -> None:
    impact = impact_of(verdict(Category.DATABASE_CORRUPT, Severity.CRITICAL), "redis", NEEDS)

    assert impact.impact_type is ImpactType.DATA_LOSS
    assert impact.business_impact is BusinessImpact.CRITICAL


@pytest.mark.parametrize(
    ("category", "impact_type", "seconds"),
    [
        (Category.SERVICE_CONFIG_INVALID, ImpactType.SERVICE_DOWN, 1200),
        (Category.AUTH_FAILED, ImpactType.SERVICE_DOWN, 600),
        (Category.STATE_MISMATCH, ImpactType.SERVICE_DOWN, 7200),
        (Category.SCHEMA_NOT_MIGRATED, ImpactType.SERVICE_DOWN, 900),
        (Category.BUILD_FAILED, ImpactType.SERVICE_DOWN, 1800),
        (Category.EXTERNAL_API, ImpactType.PERFORMANCE_DEGRADED, 1800),
        (Category.HOST_STORAGE_FAILURE, ImpactType.DATA_LOSS, 7200),
        (Category.RUNTIME_DEPENDENCY_MISSING, ImpactType.SERVICE_DOWN, 1800),
        (Category.APPLICATION_ERROR, ImpactType.SERVICE_DOWN, 1800),
    ],
)
def test_a_cause_has_its_usual_impact_and_time(category: Category, impact_type: ImpactType, seconds: int) -> None:
    impact = impact_of(verdict(category), "web", NEEDS)

    assert impact.impact_type is impact_type
    assert impact.estimated_recovery_seconds == seconds


def test_an_optional_dependency_matters_less_than_a_required_one() -> None:
    optional = (
        Dependency(
            service="bot",
            depends_on="cache",
            dependency_type=DependencyType.OPTIONAL,
            health_impact=HealthImpact.LOW,
        ),
    )
    slow = verdict(Category.HEALTHCHECK_FAILED, Severity.MEDIUM)

    assert impact_of(slow, "cache", optional).business_impact is BusinessImpact.MEDIUM
    assert impact_of(slow, "redis", NEEDS).business_impact is BusinessImpact.HIGH


@pytest.mark.parametrize("category", [one for one in Category if one is not Category.BENIGN])
def test_every_cause_has_an_impact(category: Category) -> None:
    assert impact_of(verdict(category), "web", NEEDS).estimated_recovery_seconds >= 0


def test_a_benign_verdict_hits_nobody() -> None:
    assert analyse_impact(verdict(Category.BENIGN, Severity.LOW), "web", NEEDS) is None


def container(service: str, state: str = "running", health: str | None = None, **more: object) -> ContainerState:
    fields = {
        "container_id": "1",
        "project": "p",
        "number": 1,
        "image": "web:1",
        "image_id": "2",
        "seen_at": NOW,
    } | more
    return ContainerState(service=service, name=service, state=state, health=health, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "untouched", "hit"),
    [
        ("web", [container("web"), container("bot", "exited")], False),
        (None, [container("web"), container("bot", health="healthy")], False),
        (None, [container("web"), container("bot", "exited", exit_code=1, one_off=True)], False),
        (None, [container("web"), container("migrate", "exited", exit_code=0)], False),
        (None, [container("web"), container("bot", "exited", exit_code=1)], True),
        ("web", [container("web", health="unhealthy")], True),
        ("web", [container("web"), container("web", "restarting")], True),
        ("web", [container("bot")], True),
        ("web", [], True),
    ],
)
def test_an_operation_that_touched_nothing_hits_only_those_that_do_not_run(
    service: str | None, untouched: list[ContainerState], hit: bool
) -> None:
    assert (analyse_impact(verdict(Category.IMAGE_PULL_FAILED), service, NEEDS, untouched) is not None) is hit
