from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.common.significance import wilson
from core.monitoring.health import judge_all, judge_environment, judge_service, unknown_service
from core.monitoring.scores import grade, hold_grade, score_service
from models.analysis import Grade, Share
from models.compose import Application, NetworkDeclaration, ServiceDeclaration
from models.containers import ContainerState, HealthLogEntry
from models.environments import Environment, ServiceSpec
from models.health import Health, ProbeResult, Reading, ServiceHealth, ServiceVerdict
from models.metrics import Dependency, DependencyStatus, DependencyType, HealthImpact

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RUNNING = ContainerState(
    container_id="c1",
    name="app-bot-1",
    service="bot",
    project="app",
    number=1,
    image="bot:1",
    image_id="sha256:1",
    state="running",
    seen_at=NOON,
    health="healthy",
)
ANSWERS = ProbeResult(
    service="bot", kind="http", target="bot:8080/", ok=True, detail="200", checked_at=NOON, latency_ms=12.0
)
LAGS = replace(
    ANSWERS, readings=(Reading(metric="replication_lag_seconds", value=9, words="it is 9 s behind", degrades=True),)
)
REFUSED = replace(ANSWERS, ok=False, detail="connection refused", latency_ms=None)
NEEDS_REDIS = Dependency(service="bot", depends_on="redis")


def judged(
    *container_states: ContainerState, probe: ProbeResult | None = None, one_shot: bool = False, required: bool = True
) -> ServiceVerdict:
    return judge_service("bot", container_states, probe, spec=ServiceSpec(required=required), one_shot=one_shot)


@pytest.mark.parametrize(
    ("change", "probe", "health", "words"),
    [
        ({}, None, ServiceHealth.HEALTHY, "its own health check passes"),
        ({}, ANSWERS, ServiceHealth.HEALTHY, "and the http probe of bot:8080/ answers"),
        ({}, REFUSED, ServiceHealth.UNHEALTHY, "passes, but the http probe of bot:8080/ failed: connection"),
        ({"health": None}, None, ServiceHealth.UNPROVEN, "neither health check nor probe"),
        ({"health": None}, ANSWERS, ServiceHealth.HEALTHY, "answers in 12 ms"),
        ({"health": None}, REFUSED, ServiceHealth.UNHEALTHY, "connection refused"),
        ({}, LAGS, ServiceHealth.DEGRADED, "the http probe of bot:8080/ answers, but it is 9 s behind"),
        ({"health": None}, LAGS, ServiceHealth.DEGRADED, "it is 9 s behind"),
        ({"health": "starting"}, LAGS, ServiceHealth.STARTING, "has not passed yet"),
        ({"health": "unhealthy"}, LAGS, ServiceHealth.UNHEALTHY, "its own health check fails"),
        ({"health": "starting"}, None, ServiceHealth.STARTING, "has not passed yet"),
        ({"health": "starting"}, REFUSED, ServiceHealth.STARTING, "connection refused"),
        (
            {"state": "restarting", "restart_count": 7, "exit_code": 1},
            None,
            ServiceHealth.UNHEALTHY,
            "7 rest",
        ),
        ({"state": "exited", "exit_code": 1}, None, ServiceHealth.STOPPED, "exited with code 1"),
        ({"state": "exited", "exit_code": 0}, None, ServiceHealth.STOPPED, "exited with code 0"),
        ({"state": "exited", "exit_code": 137, "oom_killed": True}, None, ServiceHealth.STOPPED, "memory"),
        ({"state": "exited", "exit_code": 137}, None, ServiceHealth.STOPPED, "killed"),
        ({"state": "created", "error": "port is taken"}, None, ServiceHealth.STOPPED, "port is taken"),
        ({"state": "paused"}, None, ServiceHealth.UNHEALTHY, "paused"),
        ({"state": "removing"}, None, ServiceHealth.STOPPED, "being removed"),
        ({"state": "dreaming"}, None, ServiceHealth.UNKNOWN, "dreaming"),
    ],
)
def test_a_service_is_judged_by_its_container_and_its_probe(
    change: dict[str, object], probe: ProbeResult | None, health: ServiceHealth, words: str
) -> None:
    verdict = judged(replace(RUNNING, **change), probe=probe)  # type: ignore[arg-type]
    assert verdict.health is health
    assert words in verdict.reason


def test_a_one_shot_service_is_completed_by_exit_code_0_only() -> None:
    assert judged(replace(RUNNING, state="exited"), one_shot=True).health is ServiceHealth.COMPLETED
    failed = judged(replace(RUNNING, state="exited", exit_code=2), one_shot=True)
    assert failed.health is ServiceHealth.UNHEALTHY
    assert judged(RUNNING, one_shot=True).health is ServiceHealth.STARTING


def test_a_failing_health_check_is_explained_with_its_last_output() -> None:
    log = (HealthLogEntry(ended_at="", exit_code=1, output="NOAUTH Authentication\nrequired"),)
    verdict = judged(replace(RUNNING, health="unhealthy", health_log=log))
    assert verdict.health is ServiceHealth.UNHEALTHY
    assert "NOAUTH Authentication required" in verdict.reason


def test_a_service_without_a_container_is_stopped() -> None:
    assert judged().health is ServiceHealth.STOPPED
    assert judged(replace(RUNNING, one_off=True)).health is ServiceHealth.STOPPED


def test_one_replica_down_of_two_is_degraded_and_two_are_stopped() -> None:
    down = replace(RUNNING, state="exited", exit_code=1, number=2)
    assert judged(RUNNING, down).health is ServiceHealth.DEGRADED
    assert "1 of 2 replicas" in judged(RUNNING, down).reason
    assert judged(down, down).health is ServiceHealth.STOPPED


def whole(*verdicts: ServiceVerdict, dependencies: tuple[Dependency, ...] = (), alerts: int = 0) -> Health:
    return judge_environment("dev", verdicts, now=NOON, dependencies=dependencies, critical_alerts=alerts).overall


def test_the_whole_is_unhealthy_when_a_required_service_is_down_and_degraded_for_an_optional_one() -> None:
    well, down = judged(RUNNING), judged()
    assert whole(well) is Health.HEALTHY
    assert whole(well, down) is Health.UNHEALTHY
    assert whole(well, judged(required=False)) is Health.DEGRADED


@pytest.mark.parametrize("other", [replace(RUNNING, health=None), RUNNING])
def test_running_replicas_without_a_proof_are_not_counted_as_failed(other: ContainerState) -> None:
    verdict = judged(replace(RUNNING, health=None), other)
    assert verdict.health is ServiceHealth.UNPROVEN
    assert verdict.reason == "runs, but has neither health check nor probe to prove it works"


@pytest.mark.parametrize("health", [h for h in ServiceHealth if h.value not in {"healthy", "completed", "unproven"}])
def test_only_healthy_services_make_a_healthy_environment(health: ServiceHealth) -> None:
    other = ServiceVerdict(service="web", health=health, reason="so seen")
    assert whole(judged(RUNNING), other) is not Health.HEALTHY


def test_knowing_nothing_is_unhealthy_and_says_so() -> None:
    unknown = unknown_service("bot", "the engine did not answer", spec=ServiceSpec())
    assert whole(unknown) is Health.UNHEALTHY
    report = judge_environment("dev", (), now=NOON)
    assert report.overall is Health.UNHEALTHY
    assert report.findings == ("no service of this environment was seen",)


def test_a_failed_hard_dependency_fails_the_whole_and_a_soft_one_degrades_it() -> None:
    failed = replace(NEEDS_REDIS, status=DependencyStatus.FAILED)
    soft = replace(failed, dependency_type=DependencyType.PERFORMANCE)
    assert whole(judged(RUNNING), dependencies=(failed,)) is Health.UNHEALTHY
    assert whole(judged(RUNNING), dependencies=(soft,)) is Health.DEGRADED
    assert whole(judged(RUNNING), alerts=1) is Health.DEGRADED


def test_findings_name_the_dependency_behind_a_failure() -> None:
    redis = ServiceVerdict(service="redis", health=ServiceHealth.STOPPED, reason="does not run")
    bot = judged(RUNNING, probe=REFUSED)
    report = judge_environment("dev", (bot, redis), now=NOON, dependencies=(NEEDS_REDIS,))
    assert any("it needs redis, which is down" in finding for finding in report.findings)


points = st.floats(0, 1)


@given(good=st.integers(0, 5000), more=st.integers(1, 1000), surprise=points, failed=st.booleans())
def test_the_score_rises_with_every_part(good: int, more: int, surprise: float, failed: bool) -> None:
    def score(up: int, strange: float, lost: bool) -> float:
        status = DependencyStatus.FAILED if lost else DependencyStatus.ACTIVE
        needs = (replace(NEEDS_REDIS, status=status, health_impact=HealthImpact.MODERATE),)
        scored = score_service("bot", uptime=Share(good=up, total=6000), surprise=strange, dependencies=needs).score
        assert scored is not None
        return scored

    assert score(good + more, surprise, failed) >= score(good, surprise, failed)
    assert score(good, surprise / 2, failed) >= score(good, surprise, failed)
    assert score(good, surprise, False) >= score(good, surprise, True)


@given(good=st.integers(0, 6000), surprise=points)
def test_a_dead_service_never_has_more_than_40_points(good: int, surprise: float) -> None:
    scored = score_service("bot", uptime=Share(good=good, total=6000), surprise=surprise, down=True)
    assert scored.score is not None
    assert scored.score <= 40
    assert scored.grade is Grade.F


def test_a_hard_dependency_down_caps_at_60() -> None:
    failed = (replace(NEEDS_REDIS, status=DependencyStatus.FAILED),)
    scored = score_service("bot", uptime=Share(good=99999, total=99999), surprise=0.0, dependencies=failed)
    assert scored.score is not None
    assert scored.score <= 60
    assert "redis" in scored.cap


def test_a_part_without_data_is_left_out_and_the_coverage_says_so() -> None:
    scored = score_service("bot", uptime=Share(good=50, total=50))
    assert scored.score == 100
    assert scored.coverage == pytest.approx(0.30)
    assert scored.parts["performance"] is None
    assert any("no data for performance, errors, dependencies" in words for words in scored.suggestions)


def test_without_any_data_there_is_no_score() -> None:
    scored = score_service("bot")
    assert (scored.score, scored.grade, scored.coverage) == (None, None, 0)


def test_the_bounds_are_wide_while_checks_are_few() -> None:
    few = score_service("bot", uptime=Share(good=10, total=10), surprise=0.0)
    many = score_service("bot", uptime=Share(good=100_000, total=100_000), surprise=0.0)
    assert few.low is not None
    assert many.low is not None
    assert few.low < 60 < 95 < many.low


def test_a_short_outage_heals_in_the_score_once_the_service_is_up_again() -> None:
    month = 30 * 24 * 60
    scored = score_service("bot", uptime=Share(good=month - 10, total=month), surprise=0.05)
    assert scored.score is not None
    assert scored.score >= 90


def test_the_shown_grade_does_not_flicker_at_a_border() -> None:
    held = Grade.A
    for index in range(3, 40):
        scores = [90 + (-1) ** step * 2 for step in range(index)]
        held = hold_grade(held, scores) or held
        assert held is Grade.A
    assert hold_grade(Grade.A, [80, 80, 80]) is Grade.B
    assert hold_grade(Grade.A, [95, 80, 80]) is Grade.A
    assert hold_grade(Grade.D, [96, 97, 96]) is Grade.A
    assert hold_grade(None, [71]) is Grade.C
    assert hold_grade(Grade.F, [40, 100]) is Grade.A


def test_grades_begin_where_their_word_says() -> None:
    assert [grade(score) for score in (100, 90, 80, 70, 60, 59.9, 0)] == [
        Grade.A, Grade.A, Grade.B, Grade.C, Grade.D, Grade.F, Grade.F,
    ]  # fmt: skip


def test_wilson_gives_the_known_interval_of_all_good() -> None:
    assert wilson(10, 10)[0] == pytest.approx(0.72, abs=0.005)
    assert wilson(73, 73)[0] == pytest.approx(0.95, abs=0.005)
    assert wilson(0, 0) == (0.0, 1.0)


DECLARED = Application(
    project="app",
    services={"bot": ServiceDeclaration(name="bot", image="bot:1", networks=("default",))},
    networks=(NetworkDeclaration(key="default", name="app_default"),),
)
HERE = Environment(name="app", compose_files=(Path("/dev/null"),), project="app")


@pytest.mark.parametrize(
    ("networks", "state", "health"),
    [
        (("app_default", "bridge"), "running", ServiceHealth.HEALTHY),
        (("bridge",), "running", ServiceHealth.UNHEALTHY),
        # What has ended is reported by its end.
        ((), "exited", ServiceHealth.STOPPED),
    ],
)
def test_a_service_that_is_taken_off_its_network_is_unhealthy(
    networks: tuple[str, ...], state: str, health: ServiceHealth
) -> None:
    seen = replace(RUNNING, networks=networks, state=state, exit_code=1 if state == "exited" else 0)

    (verdict,) = judge_all(HERE, DECLARED, [seen], {})

    assert verdict.health is health
    assert ("not connected to network app_default" in verdict.reason) == (health is ServiceHealth.UNHEALTHY)


def test_a_container_beside_the_one_that_it_replaces_does_not_count() -> None:
    seen = replace(RUNNING, networks=("app_default",))
    beside = replace(seen, container_id="c2", name=f"0123456789ab_{RUNNING.name}", state="exited", exit_code=1)

    (both,) = judge_all(HERE, DECLARED, [seen, beside], {})
    (alone,) = judge_all(HERE, DECLARED, [beside], {})

    assert both.health is ServiceHealth.HEALTHY
    assert alone.health is ServiceHealth.STOPPED


@pytest.mark.parametrize(
    ("verdicts", "more", "overall", "summary"),
    [
        ([ServiceHealth.HEALTHY, ServiceHealth.COMPLETED], {}, Health.HEALTHY, "healthy"),
        (
            [ServiceHealth.UNPROVEN, ServiceHealth.HEALTHY],
            {},
            Health.HEALTHY,
            "healthy (1 of 2 services not proven)",
        ),
        ([ServiceHealth.UNPROVEN, ServiceHealth.UNPROVEN], {}, Health.HEALTHY, "running (not proven)"),
        ([ServiceHealth.UNPROVEN, ServiceHealth.STOPPED], {}, Health.UNHEALTHY, "unhealthy"),
        ([ServiceHealth.UNPROVEN, ServiceHealth.DEGRADED], {}, Health.DEGRADED, "degraded"),
        ([ServiceHealth.UNPROVEN, ServiceHealth.UNKNOWN], {}, Health.DEGRADED, "degraded"),
        ([ServiceHealth.UNPROVEN], {"critical_alerts": 1}, Health.DEGRADED, "degraded"),
        ([ServiceHealth.UNPROVEN], {"findings": ["the disk is full"]}, Health.DEGRADED, "degraded"),
    ],
)
def test_a_missing_proof_alone_degrades_nothing_and_is_never_called_healthy(verdicts, more, overall, summary) -> None:
    found = [ServiceVerdict(service=f"s{n}", health=one, reason="seen") for n, one in enumerate(verdicts)]
    report = judge_environment("app", found, now=NOON, **more)
    assert (report.overall, report.summary) == (overall, summary)


def test_that_a_service_has_no_probe_is_no_finding() -> None:
    report = judge_environment("app", (judged(replace(RUNNING, health=None)), judged(RUNNING)), now=NOON)
    assert report.findings == ()
