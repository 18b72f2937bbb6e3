"""Who is restarted when, which replicas together, and what a dependant says afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.restart import DependantAnswer, aftermath, replica_groups, restarted_needs, roll_order, settle_time
from models.compose import Application, DependsOn, HealthcheckDeclaration, ServiceDeclaration
from models.containers import ContainerState, HealthLogEntry
from models.health import ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyType, HealthImpact

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE, AFTER = "2026-01-01T11:59:59.123456789Z", "2026-01-01T13:00:01.123456789+01:00"
PROBE = ProbeResult(service="bot", kind="tcp", target="bot:1", ok=True, detail="accepts", checked_at=NOON)
WELL = ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="its own health check passes")


def application(**needs: tuple[str, ...]) -> Application:
    services = {
        name: ServiceDeclaration(name=name, image="i", depends_on={other: DependsOn() for other in others})
        for name, others in needs.items()
    }
    return Application(project="shop", services=services)


def need(service: str, other: str, kind: DependencyType = DependencyType.REQUIRED) -> Dependency:
    return Dependency(service=service, depends_on=other, dependency_type=kind, health_impact=HealthImpact.CRITICAL)


def container(number: int = 1, state: str = "running", health: str | None = "healthy", *checks: tuple[str, int]):
    return ContainerState(
        container_id=f"c{number}", name=f"shop-bot-{number}", service="bot", project="shop", number=number,
        image="i", image_id="sha256:1", state=state, seen_at=NOON, health=health,
        health_log=tuple(HealthLogEntry(ended_at=at, exit_code=code, output="no answer") for at, code in checks),
    )  # fmt: skip


def test_each_service_comes_after_what_it_needs() -> None:
    assert roll_order(application(web=("api",), api=("db",), db=()), []) == ("db", "api", "web")


def test_what_the_environment_adds_is_part_of_the_order() -> None:
    alone = application(a=(), b=(), c=())
    assert roll_order(alone, [need("a", "c")]) == ("b", "c", "a")


def test_those_that_require_something_go_before_those_that_may_do_without() -> None:
    both = application(db=(), a=("db",), b=("db",))
    order = roll_order(both, [need("a", "db", DependencyType.OPTIONAL), need("b", "db")])
    assert order == ("db", "b", "a")


def test_a_circle_that_the_environment_makes_ends_the_order_nowhere() -> None:
    order = roll_order(application(a=(), b=("a",)), [need("b", "a"), need("a", "b")])
    assert sorted(order) == ["a", "b"]


def test_only_what_a_service_needs_itself_and_was_restarted_counts_the_required_first() -> None:
    needs = [need("bot", "cache", DependencyType.OPTIONAL), need("bot", "db"), need("web", "x"), need("bot", "y")]
    assert restarted_needs("bot", needs, {"cache", "db", "x"}) == ("db", "cache")
    assert restarted_needs("bot", needs, {"x"}) == ()


def test_replicas_that_serve_go_one_at_a_time_after_those_that_do_not() -> None:
    first, ill, third, gone = container(1), container(2, health="unhealthy"), container(3), container(4, "exited")
    assert replica_groups([first, ill, third, gone], serves=True) == ((ill, gone), (first,), (third,))


def test_replicas_whose_service_does_not_serve_go_together() -> None:
    assert replica_groups([container(1), container(2)], serves=False) == ((container(1), container(2)),)


@pytest.mark.parametrize(
    ("check", "probed", "seconds"),
    [
        (None, False, 0),
        (None, True, 15),
        (HealthcheckDeclaration(disabled=True), True, 15),
        (HealthcheckDeclaration(interval=timedelta(seconds=2), timeout=timedelta(seconds=1)), False, 15),
        (HealthcheckDeclaration(interval=timedelta(seconds=20), timeout=timedelta(seconds=3)), True, 25),
        (HealthcheckDeclaration(), False, 60),
    ],
)
def test_a_dependant_is_given_time_for_one_check(
    check: HealthcheckDeclaration | None, probed: bool, seconds: int
) -> None:
    declaration = ServiceDeclaration(name="bot", image="i", healthcheck=check)
    assert settle_time(declaration, probed=probed) == timedelta(seconds=seconds)


def test_a_check_from_before_says_nothing_and_one_from_after_does() -> None:
    old = [container(1, "running", "healthy", (BEFORE, 0))]
    new = [container(1, "running", "healthy", (BEFORE, 0), (AFTER, 0))]
    assert aftermath(WELL, old, None, since=NOON).answer is DependantAnswer.UNPROVEN
    assert aftermath(WELL, new, None, since=NOON).answer is DependantAnswer.HEALTHY


def test_one_failed_check_is_an_answer_though_the_engine_still_says_healthy() -> None:
    failing = [container(1, "running", "healthy", (BEFORE, 0), (AFTER, 1))]
    found = aftermath(WELL, failing, None, since=NOON)
    assert found.answer is DependantAnswer.UNHEALTHY
    assert "no answer" in found.reason


def test_a_probe_is_enough_where_there_is_no_check_and_not_where_the_check_is_silent() -> None:
    assert aftermath(WELL, [container(1, "running", None)], PROBE, since=NOON).answer is DependantAnswer.HEALTHY
    assert aftermath(WELL, [container(1)], PROBE, since=NOON).answer is DependantAnswer.UNPROVEN


def test_a_job_that_has_done_its_work_needs_nothing_more() -> None:
    done = replace(WELL, health=ServiceHealth.COMPLETED, reason="did its work")
    assert aftermath(done, [container(1, "exited", None)], None, since=NOON).answer is DependantAnswer.HEALTHY


def test_a_dependant_of_which_nothing_is_known_is_unproven_and_one_that_is_down_is_unhealthy() -> None:
    unproven = replace(WELL, health=ServiceHealth.UNPROVEN)
    assert aftermath(unproven, [container(1, "running", None)], None, since=NOON).answer is DependantAnswer.UNPROVEN
    down = replace(WELL, health=ServiceHealth.STOPPED, reason="does not run")
    assert aftermath(down, [], None, since=NOON).reason == "does not run"
