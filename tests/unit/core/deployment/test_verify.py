"""Where a service stands while it starts, and who is to blame where it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.common.exit_codes import describe_exit
from core.deployment.verify import (
    CRASHES_TOLERATED,
    REFUSED_FOR,
    Progress,
    StabilityHold,
    counted_failures,
    extend_deadline,
    judge_progress,
    readiness_after_refusal,
    root_failure,
    update_stability,
)
from models.compose import HealthcheckDeclaration, ServiceDeclaration
from models.containers import ContainerState, HealthLogEntry
from models.results import ServiceStart

ASKED = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = ASKED + timedelta(seconds=5)
YESTERDAY = ASKED - timedelta(days=1)

SERVER = ServiceDeclaration(name="redis", image="redis", restart="always", config_hash="h")
CHECKED = replace(SERVER, healthcheck=HealthcheckDeclaration(test=("CMD", "true")))
JOB = ServiceDeclaration(name="migrate", image="job", awaited=True, one_shot=True)
UP = ContainerState(
    container_id="1",
    name="app-redis-1",
    service="redis",
    project="app",
    number=1,
    image="redis",
    image_id="sha256:1",
    state="running",
    seen_at=LATER,
    started_at=LATER,
)


def progress(declaration: ServiceDeclaration, *container_states: ContainerState, restarts_before: int = 0) -> Progress:
    return judge_progress(declaration, container_states, asked_at=ASKED, restarts_before=restarts_before).progress


@pytest.mark.parametrize(
    ("declaration", "seen", "expected"),
    [
        (SERVER, UP, Progress.UP),
        (SERVER, replace(UP, state="created", started_at=None), Progress.WAITING),
        (SERVER, replace(UP, state="created", started_at=None, error="port is taken"), Progress.LOST),
        (SERVER, replace(UP, state="exited", exit_code=0), Progress.LOST),
        (SERVER, replace(UP, state="exited", exit_code=1), Progress.LOST),
        (SERVER, replace(UP, state="exited", exit_code=1, started_at=YESTERDAY), Progress.WAITING),
        (SERVER, replace(UP, state="restarting", exit_code=1, restart_count=1), Progress.WAITING),
        (SERVER, replace(UP, restart_count=CRASHES_TOLERATED + 1), Progress.LOST),
        (SERVER, replace(UP, state="paused"), Progress.WAITING),
        (SERVER, replace(UP, state="removing"), Progress.LOST),
        (CHECKED, UP, Progress.WAITING),
        (CHECKED, replace(UP, health="starting"), Progress.WAITING),
        (CHECKED, replace(UP, health="healthy"), Progress.UP),
        (CHECKED, replace(UP, health="unhealthy"), Progress.LOST),
        (JOB, UP, Progress.WAITING),
        (JOB, replace(UP, state="exited", exit_code=0), Progress.COMPLETED),
        (JOB, replace(UP, state="exited", exit_code=0, started_at=YESTERDAY), Progress.WAITING),
        (JOB, replace(UP, state="exited", exit_code=2), Progress.LOST),
        (replace(JOB, awaited=False), UP, Progress.UP),
    ],
)
def test_a_service_stands_where_its_container_says(
    declaration: ServiceDeclaration, seen: ContainerState, expected: Progress
) -> None:
    assert progress(declaration, seen) is expected


def test_a_service_without_container_is_waited_for() -> None:
    assert progress(SERVER) is Progress.WAITING


def test_the_worst_replica_decides() -> None:
    assert progress(SERVER, UP, replace(UP, number=2, state="exited", exit_code=1)) is Progress.LOST


def test_restarts_of_an_earlier_life_do_not_count() -> None:
    many = replace(UP, restart_count=50)
    assert progress(SERVER, many, restarts_before=50) is Progress.UP


def test_a_failing_check_is_quoted() -> None:
    sick = replace(UP, health="unhealthy", health_log=(HealthLogEntry(ended_at="", exit_code=1, output="NOAUTH\n"),))
    assert "exit code 1, NOAUTH" in judge_progress(CHECKED, [sick], asked_at=ASKED).reason


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            replace(UP, state="exited", exit_code=0),
            "it ended with exit code 0, as a program does that goes into the back",
        ),
        (replace(UP, state="exited", exit_code=1), "it ended with exit code 1"),
        (replace(UP, restart_count=6, exit_code=0), "it keeps ending: restarted 6 times, last with exit code 0, as a"),
        (replace(UP, restart_count=6, exit_code=1), "it keeps crashing: restarted 6 times, last with exit code 1"),
    ],
)
def test_a_server_that_ends_without_a_failure_left_the_foreground(seen: ContainerState, words: str) -> None:
    assert judge_progress(SERVER, [seen], asked_at=ASKED).reason.startswith(words)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(UP, exit_code=137), "killed"),
        (replace(UP, exit_code=137, oom_killed=True), "too much memory"),
        (replace(UP, exit_code=127), "not found"),
        (replace(UP, exit_code=1, error="no such device"), "exit code 1: no such device"),
    ],
)
def test_the_end_of_a_container_is_reported_in_words(seen: ContainerState, words: str) -> None:
    assert words in describe_exit(seen)


def failed(service: str, caused_by: str | None = None) -> ServiceStart:
    return ServiceStart(
        service=service,
        previous_state="",
        state="failed",
        reason="",
        kept=False,
        waited_seconds=0,
        took_seconds=0,
        ok=False,
        caused_by=caused_by,
    )


REDIS, MIGRATE, BOT = failed("redis"), failed("migrate", "redis"), failed("bot", "migrate")


def test_what_is_optional_fails_no_start_unless_nothing_required_runs() -> None:
    up = replace(failed("web"), ok=True, state="healthy")
    job = replace(failed("migrate"), ok=True, state="completed")
    assert counted_failures([up, failed("metrics")], {"metrics"}) == ()
    assert counted_failures([failed("web"), failed("metrics")], {"metrics"}) == ("web", "metrics")
    assert counted_failures([job, failed("metrics")], {"metrics"}) == ("metrics",)


def test_root_failure_of_a_service_that_was_not_started_is_its_dependency() -> None:
    assert root_failure([REDIS, MIGRATE, BOT], {"bot"}) is REDIS
    assert root_failure([failed("web"), REDIS, MIGRATE], {"web", "migrate"}) == failed("web")


def test_a_dependency_that_did_not_fail_is_no_root_failure() -> None:
    assert root_failure([MIGRATE], {"migrate"}) is MIGRATE


def test_there_is_no_root_failure_if_only_optional_services_failed() -> None:
    assert root_failure([REDIS, MIGRATE], {"web"}) is None


TEN = timedelta(seconds=10)


def held(before: StabilityHold | None, seconds: float, *container_states: ContainerState) -> StabilityHold:
    seen = container_states or (UP,)
    now = LATER + timedelta(seconds=seconds)
    return update_stability(before, now, judge_progress(SERVER, seen, asked_at=ASKED), seen, TEN)


def test_a_service_is_proven_once_it_has_held() -> None:
    first = held(None, 0)
    assert not first.proven
    assert not held(first, 9.9).proven
    assert held(first, 10).proven


def test_a_restart_begins_the_stability_time_anew() -> None:
    first = held(None, 0)
    again = held(first, 9, replace(UP, restart_count=1))
    assert again.since == LATER + timedelta(seconds=9)
    assert not held(again, 12, replace(UP, restart_count=1)).proven


def test_a_service_that_broke_has_to_hold_twice_as_long_as_it_did() -> None:
    again = held(held(held(None, 0), 7, replace(UP, state="restarting")), 8, replace(UP, restart_count=1))
    assert not held(again, 21, replace(UP, restart_count=1)).proven
    assert held(again, 22, replace(UP, restart_count=1)).proven

    after_days = held(held(None, -200_000), 0, replace(UP, restart_count=1))
    assert held(after_days, 20, replace(UP, restart_count=1)).proven


def test_the_deadline_of_a_start_leaves_a_service_that_is_up_the_time_to_hold_and_to_pass_its_next_check() -> None:
    waiting = held(None, 0, replace(UP, state="restarting"))
    assert extend_deadline(60, 50, waiting, TEN) == 60

    up = held(None, 0)
    assert extend_deadline(60, 30, up, TEN) == 60
    assert extend_deadline(60, 59, up, TEN) == 79

    late = held(up, 10.5)
    assert extend_deadline(79, 69.5, late, TEN) == 79


def test_a_container_restarted_by_a_user_begins_the_stability_time_anew() -> None:
    first = held(None, 0)
    again = held(first, 9, replace(UP, started_at=LATER + timedelta(seconds=8)))
    assert again.since == LATER + timedelta(seconds=9)


def test_a_failure_ends_the_stability_time() -> None:
    first = held(None, 0)
    assert held(first, 5, replace(UP, state="restarting")).since is None


def test_a_service_whose_last_health_check_failed_is_not_proven_before_the_next() -> None:
    entries = [HealthLogEntry(ended_at="", exit_code=code, output="") for code in (0, 1, 0)]
    passed, failed, passed_again = (
        replace(UP, health="healthy", health_log=tuple(entries[: count + 1])) for count in range(3)
    )
    first = held(None, 0, passed)
    waits = held(first, 10, failed)

    assert not waits.proven
    assert waits.since == first.since
    assert waits.reason == "its last health check failed: exit code 1"
    assert held(waits, 11, passed_again).proven


def test_a_service_that_ran_before_is_proven_although_its_last_health_check_failed() -> None:
    check = HealthLogEntry(ended_at="", exit_code=1, output="")
    seen = [replace(UP, health="healthy", health_log=(check,))]
    first = held(None, 0)
    readiness = judge_progress(SERVER, seen, asked_at=ASKED)

    assert update_stability(first, LATER + TEN, readiness, seen, TEN, ran_before=True).proven


def test_a_completed_job_needs_no_stability_time() -> None:
    done = replace(UP, state="exited", exit_code=0)
    assert update_stability(None, LATER, judge_progress(JOB, [done], asked_at=ASKED), [done], TEN).proven


def test_no_stabilisation_time_proves_at_once() -> None:
    assert update_stability(None, LATER, judge_progress(SERVER, [UP], asked_at=ASKED), [UP], timedelta()).proven


def test_a_login_that_stays_refused_ends_the_wait_and_a_moment_does_not() -> None:
    assert readiness_after_refusal("Access denied for user app", REFUSED_FOR / 2) is None
    lost = readiness_after_refusal("Access denied for user app", REFUSED_FOR)
    assert lost is not None
    assert (lost.progress, lost.reason) == (Progress.LOST, "its login is refused: Access denied for user app")
