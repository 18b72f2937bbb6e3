"""Assessment of a collection: metrics, sources that did not answer, missed collections."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.monitoring.assess import RememberedState, SourceAnswers, assess, is_predictive
from core.monitoring.measurements import deaths, next_due, uses_the_same
from models.containers import ONE_OFF_LABEL, ContainerEvent, ContainerState, ServiceSample, SystemSample
from models.environments import Environment
from models.health import Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Metric
from tests.unit.core.deployment.test_plan import application, service

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DEV = Environment(name="dev", project="dev", compose_files=(Path("c.yaml"),))
SYSTEM = SystemSample(
    sampled_at=NOON, cpu_busy_seconds=1000, load_1m=1, load_5m=1, load_15m=1, cpus=2, memory_total_bytes=100,
    memory_available_bytes=60, swap_used_bytes=0, disk_total_bytes=100, disk_free_bytes=70, inodes_total=10,
    inodes_free=5, network_rx_bytes=1, network_tx_bytes=1, open_files_limit=1024,
)  # fmt: skip
CONTAINER_STATE = ContainerState(
    container_id="c", name="dev-bot-1", service="bot", project="dev", number=1, image="i", image_id="i",
    state="running", seen_at=NOON,
)  # fmt: skip
SAMPLE = ServiceSample(
    service="bot", container_id="c", sampled_at=NOON, cpu_total_ns=5_000_000_000,
    memory_bytes=20, memory_limit_bytes=100,
)  # fmt: skip
WELL = HealthReport(
    environment="dev",
    overall=Health.HEALTHY,
    checked_at=NOON,
    services=(ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="answers"),),
)
SEEN = SourceAnswers(at=NOON, system=SYSTEM, samples=[SAMPLE], container_states=[CONTAINER_STATE], health=WELL)
REFUSED = ProbeResult(service="bot", kind="tcp", target="1", ok=False, detail="refused", checked_at=NOON)
NOTHING = RememberedState(states={})


def measured(seen: SourceAnswers, memory: RememberedState = NOTHING) -> dict[tuple[str, str], float]:
    return {(one.service, one.name): one.value for one in assess(DEV, seen, memory).metrics}


def last(service: str, name: str, value: float, at: datetime) -> Metric:
    return Metric(environment="dev", service=service, name=name, value=value, sampled_at=at)


def test_processor_use_is_the_difference_to_the_last_collection_for_host_and_services() -> None:
    before = (
        last(HOST, "cpu_seconds_total", 940, NOON - MINUTE),
        last("bot", "cpu_seconds_total", 2, NOON - MINUTE),
    )
    found = measured(SEEN, replace(NOTHING, last=before))
    assert found[HOST, "cpu_usage"] == 50.0
    assert found["bot", "cpu_usage"] == 5.0


def test_a_first_collection_and_a_reset_counter_have_no_processor_use() -> None:
    assert (HOST, "cpu_usage") not in measured(SEEN)
    restarted = replace(NOTHING, last=(last("bot", "cpu_seconds_total", 9, NOON - MINUTE),))
    assert ("bot", "cpu_usage") not in measured(SEEN, restarted)


def test_snapshots_that_are_too_old_open_an_alert_that_no_recovery_answers() -> None:
    problem = "the newest whole snapshot is 3 d old"
    judged = assess(DEV, replace(SEEN, snapshot_problems=[problem]), NOTHING).outcome
    assert [(one.service, one.metric, one.reason) for one in judged.reported_alerts] == [(HOST, "snapshots", problem)]
    assert not is_predictive("snapshots")
    for number in range(1, 6):
        later = replace(SEEN, at=NOON + number * 5 * MINUTE)
        judged = assess(DEV, later, replace(NOTHING, states=judged.states, alerts=judged.reported_alerts)).outcome
    assert judged.reported_alerts == ()


def test_an_engine_that_is_away_is_a_judgement_of_its_own_and_no_healthy_one() -> None:
    gaps = ["containers: engine away", "container statistics: engine away"]
    away = SourceAnswers(at=NOON, application=application(service("bot")), system=SYSTEM, gaps=gaps)
    judged = assess(DEV, away, NOTHING)

    assert judged.blind
    assert judged.health.overall is Health.UNHEALTHY
    assert {one.health for one in judged.health.services} == {ServiceHealth.UNKNOWN}
    assert judged.health.services[0].reason == "not known: engine away"
    assert set(gaps) <= set(judged.health.findings)
    assert (HOST, "memory_usage") in {(one.service, one.name) for one in judged.metrics}


def test_missed_collections_are_a_finding() -> None:
    late = assess(DEV, SEEN, replace(NOTHING, collected_at=NOON - 20 * MINUTE))
    assert late.health.findings == (
        "nothing was collected from 2026-05-04 11:40:00 to 12:00:00 UTC: 19 collections are missing",
    )
    assert assess(DEV, SEEN, replace(NOTHING, collected_at=NOON - MINUTE)).health.findings == ()


def test_a_critical_alert_makes_a_healthy_whole_degraded() -> None:
    memory = NOTHING
    restarts = iter((0, 4))
    for minute, count in enumerate(restarts):
        seen = replace(
            SEEN, at=NOON + minute * MINUTE, container_states=[replace(CONTAINER_STATE, restart_count=count)]
        )
        judged = assess(DEV, seen, memory)
        memory = replace(memory, states=dict(memory.states) | judged.outcome.states)
    assert (judged.health.overall, judged.health.critical_alerts) == (Health.DEGRADED, 1)


def test_a_health_that_stays_as_it_is_gets_a_row_every_five_minutes_and_a_change_at_once() -> None:
    failing = replace(WELL, overall=Health.UNHEALTHY, services=(replace(WELL.services[0], probes=(REFUSED,)),))

    assert assess(DEV, SEEN, NOTHING).news
    assert not assess(DEV, SEEN, replace(NOTHING, health=replace(WELL, checked_at=NOON - MINUTE))).news
    assert assess(DEV, SEEN, replace(NOTHING, health=replace(WELL, checked_at=NOON - 5 * MINUTE))).news
    turned = assess(DEV, replace(SEEN, health=failing), replace(NOTHING, health=WELL))
    assert (turned.news, turned.answers) == (True, [REFUSED])


def test_between_rows_of_health_only_answers_that_failed_are_kept() -> None:
    fine = replace(REFUSED, target="2", ok=True)
    both = replace(WELL, services=(replace(WELL.services[0], probes=(REFUSED, fine)),))

    judged = assess(DEV, replace(SEEN, health=both), replace(NOTHING, health=both))

    assert (judged.news, judged.answers) == (False, [REFUSED])


def test_collections_keep_their_rhythm_and_do_not_catch_up() -> None:
    assert next_due(NOON, MINUTE, NOON + MINUTE / 6) == NOON + MINUTE
    assert next_due(NOON, MINUTE, NOON + 2.5 * MINUTE) == NOON + 3 * MINUTE


def event(action: str, second: int, **attributes: str) -> ContainerEvent:
    at = NOON - timedelta(seconds=60 - second)
    return ContainerEvent(
        happened_at=at, container_id="c", service="bot", project="dev", action=action, attributes=attributes
    )


def test_the_last_exit_of_a_service_is_measured_and_reported_though_it_runs_again() -> None:
    ends = deaths([event("die", 1, exitCode="1"), event("oom", 9), event("die", 10, exitCode="137")], [CONTAINER_STATE])
    before = assess(DEV, replace(SEEN, at=NOON - MINUTE), NOTHING)
    memory = RememberedState(states=before.outcome.states, collected_at=NOON - MINUTE)

    restarted = replace(SEEN, container_states=[replace(CONTAINER_STATE, restart_count=4)], ends=ends)
    judged = assess(DEV, restarted, memory)
    kept = {(one.service, one.name): one.value for one in judged.metrics}
    assert (kept["bot", "exit_code"], kept["bot", "oom_kills_total"]) == (137, 1)
    (alert,) = judged.outcome.reported_alerts
    assert alert.reason.endswith("its last end: exit code 137, killed for using too much memory")

    # The same events arrive again, and are not counted twice.
    again = measured(replace(SEEN, ends=ends), RememberedState(states={}, last=judged.metrics, collected_at=NOON))
    assert (again["bot", "exit_code"], again["bot", "oom_kills_total"]) == (137, 1)
    assert measured(SEEN, RememberedState(states={}, last=judged.metrics))["bot", "exit_code"] == 137


def test_what_has_ended_for_good_tells_its_end_where_no_event_does_and_what_never_ended_tells_none() -> None:
    over = replace(CONTAINER_STATE, state="exited", exit_code=3, finished_at=NOON - MINUTE)
    assert measured(replace(SEEN, ends=deaths([], [over])))["bot", "exit_code"] == 3
    assert ("bot", "exit_code") not in measured(SEEN)


def test_what_a_one_off_uses_is_none_of_its_services_use() -> None:
    beside = replace(CONTAINER_STATE, container_id="run", one_off=True, restart_count=7)
    seen = replace(
        SEEN,
        container_states=[CONTAINER_STATE, beside],
        samples=[SAMPLE, replace(SAMPLE, container_id="run", memory_bytes=70, cpu_total_ns=9_000_000_000)],
    )
    assert measured(seen) == measured(SEEN)
    assert (measured(seen)["bot", "memory_usage"], measured(seen)["bot", "restarts_total"]) == (20, 0)


def test_the_end_of_a_one_off_is_no_end_of_its_service() -> None:
    over = replace(CONTAINER_STATE, state="exited", exit_code=3, finished_at=NOON - MINUTE, one_off=True)
    assert deaths([event("die", 1, exitCode="3", **{ONE_OFF_LABEL: "True"})], [over]) == []
    assert len(deaths([event("die", 1, exitCode="3", **{ONE_OFF_LABEL: "False"})], [])) == 1


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"cpu_total_ns": 5_050_000_000, "memory_bytes": 3_000_000, "network_rx_bytes": 40_000, "processes": 9}, True),
        ({"cpu_total_ns": 4_999_999_999}, False),
        ({"cpu_total_ns": 5_000_000_000_000}, False),
        ({"memory_bytes": 40_000_000}, False),
        ({"memory_limit_bytes": 99}, False),
        ({"network_tx_bytes": 900_000_000}, False),
        ({"block_read_bytes": 900_000_000}, False),
    ],
)
def test_two_sources_measure_the_same_where_the_later_one_has_grown_by_no_more_than_can_be(change, same: bool) -> None:
    assert uses_the_same(SAMPLE, replace(SAMPLE, sampled_at=NOON + timedelta(milliseconds=5), **change)) is same
