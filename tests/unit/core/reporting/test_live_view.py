"""What `roas top` shows, put together from readings of the engine and the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.reporting.live_view import length, live_view
from models.containers import ContainerState, ServiceSample
from models.errors import Strategy
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.live import EngineReading, LiveRecords, LiveView
from models.metrics import Metric
from models.recovery import RecoveryExecution

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
JUST_COLLECTED = LiveRecords(watched_at=NOW, collected_at=NOW - timedelta(seconds=30))


def container(service: str, state: str = "running", number: int = 1, **facts: object) -> ContainerState:
    known: dict[str, object] = {
        "container_id": f"{service}{number}", "name": f"shop-{service}-{number}", "service": service, "project": "shop",
        "number": number, "image": "i", "image_id": "i", "state": state, "seen_at": NOW,
        "started_at": NOW - timedelta(hours=1),
    }  # fmt: skip
    return ContainerState(**(known | facts))  # type: ignore[arg-type]


def sample(service: str, at: datetime, cpu_seconds: float, number: int = 1) -> ServiceSample:
    return ServiceSample(
        service=service, container_id=f"{service}{number}", sampled_at=at, cpu_total_ns=round(cpu_seconds * 1e9),
        memory_bytes=100, memory_limit_bytes=1000,
    )  # fmt: skip


def reading(
    *containers: ContainerState, seconds_ago: float = 0, samples: tuple[ServiceSample, ...] = ()
) -> EngineReading:
    return EngineReading(at=NOW - timedelta(seconds=seconds_ago), containers=containers, samples=samples)


def view_of(*readings: EngineReading, records: LiveRecords = JUST_COLLECTED) -> LiveView:
    return live_view("shop", readings, records, ["web"], MINUTE)


def verdict(health: ServiceHealth) -> LiveRecords:
    judged = ServiceVerdict(service="web", health=health, reason="")
    report = HealthReport(environment="shop", overall=Health.HEALTHY, checked_at=NOW, services=(judged,))
    return LiveRecords(watched_at=NOW, collected_at=NOW, health=report)


def test_a_killed_service_shows_how_it_ended_and_when() -> None:
    ended = container("web", "exited", exit_code=137, finished_at=NOW - timedelta(seconds=3))

    (web,) = view_of(reading(ended), records=verdict(ServiceHealth.HEALTHY)).services

    assert (web.state, web.health, web.since) == ("exited (137)", "stopped", NOW - timedelta(seconds=3))


def test_a_job_that_ended_well_is_completed() -> None:
    (web,) = view_of(reading(container("web", "exited", exit_code=0))).services

    assert web.health == "completed"


def test_the_own_health_check_is_newer_than_the_last_verdict() -> None:
    checked = reading(container("web", health="unhealthy"))

    assert view_of(checked, records=verdict(ServiceHealth.HEALTHY)).services[0].health == "unhealthy"


@pytest.mark.parametrize(("recorded", "shown"), [(ServiceHealth.DEGRADED, "degraded"), (ServiceHealth.STOPPED, "")])
def test_without_a_health_check_the_last_verdict_counts_unless_it_is_out_of_date(
    recorded: ServiceHealth, shown: str
) -> None:
    assert view_of(reading(container("web")), records=verdict(recorded)).services[0].health == shown


def test_a_service_without_a_container_has_no_health() -> None:
    (web,) = view_of(reading(), records=verdict(ServiceHealth.HEALTHY)).services

    assert (web.state, web.health) == ("no container", "")


def test_without_the_engine_the_last_verdict_is_shown_beside_the_problem() -> None:
    view = view_of(EngineReading(at=NOW, problem="the engine is away"), records=verdict(ServiceHealth.HEALTHY))

    assert view.problems == ("the engine is away",)
    assert (view.services[0].state, view.services[0].health) == ("unknown", "healthy")


def test_replicas_are_one_line_with_the_state_of_the_worst() -> None:
    both = reading(container("web", restart_count=1), container("web", "exited", 2, exit_code=1, restart_count=2))

    (web,) = view_of(both).services

    assert (web.state, web.containers, web.restarts) == ("exited (1)", 2, 3)


def test_processor_time_is_taken_between_two_readings_and_added_over_replicas() -> None:
    before, later = NOW - timedelta(seconds=2), NOW
    first = reading(seconds_ago=2, samples=(sample("web", before, 10), sample("web", before, 5, 2)))
    second = reading(samples=(sample("web", later, 11), sample("web", later, 5.5, 2)))

    (web,) = view_of(first, second).services

    assert web.cpu_percent == pytest.approx(75.0)
    assert web.memory_bytes == 200


def test_a_replaced_container_has_no_rate_yet() -> None:
    first = reading(seconds_ago=2, samples=(sample("web", NOW - timedelta(seconds=2), 10),))

    assert view_of(first, reading(samples=(sample("web", NOW, 0.1, 2),))).services[0].cpu_percent is None


def test_the_history_is_of_the_record_where_it_has_one() -> None:
    values = [
        Metric(environment="shop", service="web", name="cpu_usage", value=value, sampled_at=NOW - minutes * MINUTE)
        for minutes, value in ((1, 3.0), (3, 1.0), (2, 2.0))
    ]
    records = LiveRecords(metrics=tuple(values), watched_at=NOW, collected_at=NOW)

    view = view_of(reading(container("web")), records=records)

    assert view.services[0].cpu_history == (1.0, 2.0, 3.0)
    assert view.services[0].cpu_percent == 3.0
    assert view.history == timedelta(minutes=30)


def test_without_a_recorded_history_the_readings_are_one() -> None:
    looks = [
        reading(seconds_ago=6 - 2 * n, samples=(sample("web", NOW - timedelta(seconds=6 - 2 * n), n * n),))
        for n in range(4)
    ]

    view = view_of(*looks)

    assert view.services[0].cpu_history == pytest.approx((50.0, 150.0, 250.0))
    assert view.history == timedelta(seconds=6)


@pytest.mark.parametrize(
    ("collected", "watched", "said"),
    [
        (timedelta(seconds=140), timedelta(), ""),
        (timedelta(minutes=3), timedelta(), "collected 3 min ago"),
        (timedelta(minutes=3), timedelta(minutes=4), "collected 3 min ago; roas serve is not running"),
        (timedelta(minutes=1), None, ""),
        (None, None, "nothing is collected; roas serve is not running"),
        (None, timedelta(), "nothing is collected"),
    ],
)
def test_a_stale_record_is_said(collected: timedelta | None, watched: timedelta | None, said: str) -> None:
    records = LiveRecords(
        collected_at=None if collected is None else NOW - collected,
        watched_at=None if watched is None else NOW - watched,
    )

    assert view_of(reading(), records=records).stale == said


def test_a_recovery_has_the_cause_of_its_error() -> None:
    execution = RecoveryExecution(
        error_id="err-1", strategy=Strategy.RESTART_SERVICE, started_at=NOW, service="web",
        final_status="healthy again",
        success=True,
    )  # fmt: skip
    records = LiveRecords(recoveries=(execution,), causes={"err-1": "oom_killed"}, watched_at=NOW, collected_at=NOW)

    (recovery,) = view_of(reading(), records=records).recoveries

    assert (recovery.action, recovery.cause, recovery.result) == ("restart_service", "oom_killed", "healthy again")


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (200_000, "2 d")]
)
def test_lengths(seconds: float, words: str) -> None:
    assert length(timedelta(seconds=seconds)) == words
