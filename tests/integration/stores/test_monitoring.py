"""monitoring.db keeps health, metrics, baselines and alerts."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.stores import Stores
from adapters.stores import series as series_of_stores
from adapters.stores.lifecycle.steps import compress_monitoring
from core.common.sketches import Sketch
from models.analysis import AnswersOfDay, Share
from models.failures import StoreConstraintError
from models.health import Health, HealthReport, ProbeResult, RecordedScore, ServiceHealth, ServiceVerdict
from models.metrics import Alert, AlertSeverity, AlertState, Baseline, Dependency, DependencyStatus, Metric
from models.records import EvaluationRecord
from tests.support.store_rows import probe_rows, put_alerts, put_needs, put_score, put_usual, series

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PROBE = ProbeResult(
    service="bot", kind="http", target="http://bot:80/", ok=True, detail="200", checked_at=NOON, latency_ms=3.5
)
REPORT = HealthReport(
    environment="prod",
    overall=Health.DEGRADED,
    checked_at=NOON,
    services=(
        ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="answers", probes=(PROBE,)),
        ServiceVerdict(service="web", health=ServiceHealth.STOPPED, reason="gone", required=False),
    ),
    deployment_id="prod-1",
    system_load=0.5,
    critical_alerts=1,
    findings=("web is gone",),
)
ALERT = Alert(
    alert_id="a1",
    environment="prod",
    service="bot",
    metric="cpu_percent",
    severity=AlertSeverity.WARNING,
    reason="CPU 93 %",
    opened_at=NOON,
    value=93.0,
    threshold=80.0,
)


def metric(name: str = "cpu_percent", value: float = 1.5, at: datetime = NOON, service: str = "bot") -> Metric:
    return Metric(environment="prod", service=service, name=name, value=value, sampled_at=at)


def test_a_health_report_is_given_back_as_it_was_and_kept_once(stores: Stores) -> None:
    stores.health.record(REPORT)
    stores.health.record(REPORT)
    assert stores.health.history("prod") == [REPORT]
    assert stores.health.history("dev") == []
    with stores.databases["monitoring"].read() as connection:
        found = connection.exec_driver_sql(
            "SELECT services_total, services_healthy, services_degraded, services_unhealthy "
            "FROM deployment_health_history"
        ).one()
    assert tuple(found) == (2, 1, 0, 1)


def test_a_service_that_only_lacks_proof_is_counted_in_the_total_alone(stores: Stores) -> None:
    quiet = ServiceVerdict(service="quiet", health=ServiceHealth.UNPROVEN, reason="runs")
    report = replace(REPORT, overall=Health.HEALTHY, services=(REPORT.services[0], quiet), findings=())
    stores.health.record(report)
    (kept,) = stores.health.history("prod")
    assert (kept, kept.summary) == (report, "healthy (1 of 2 services not proven)")
    with stores.databases["monitoring"].read() as connection:
        found = connection.exec_driver_sql(
            "SELECT overall_health, services_total, services_healthy, services_degraded, services_unhealthy "
            "FROM deployment_health_history"
        ).one()
    assert tuple(found) == ("healthy", 2, 1, 0, 0)


def test_a_dependency_not_named_any_more_becomes_inactive(stores: Stores) -> None:
    on_redis = Dependency(service="bot", depends_on="redis", last_check=NOON)
    on_web = Dependency(service="bot", depends_on="web", last_check=NOON)
    put_needs(stores, "prod", [on_redis, on_web])
    put_needs(stores, "dev", [on_redis])
    put_needs(stores, "prod", [on_redis])
    assert stores.dependencies.all("prod") == [
        on_redis,
        replace(on_web, status=DependencyStatus.INACTIVE),
    ]
    assert stores.dependencies.all("dev") == [on_redis]


def test_a_baseline_keeps_the_time_it_was_first_made(stores: Stores) -> None:
    first = Baseline(
        service="bot",
        metric="cpu_percent",
        value=10,
        warning=50,
        critical=None,
        created_at=NOON,
        updated_at=NOON,
        samples=3,
    )
    later = replace(first, value=12, created_at=NOON + MINUTE, updated_at=NOON + MINUTE, samples=4)
    put_usual(stores, "prod", [first])
    put_usual(stores, "dev", [first])
    put_usual(stores, "prod", [later])
    assert stores.baselines.all("prod") == [replace(later, created_at=NOON)]
    assert stores.baselines.all("dev") == [first]


def test_samples_come_back_by_series_and_time(stores: Stores) -> None:
    for place in range(4):
        stores.metrics.add([metric(value=place, at=NOON + place * MINUTE), metric("memory", 9)])
    found = series(stores, "prod", "bot", "cpu_percent", NOON + MINUTE, NOON + 3 * MINUTE)
    assert found == [(NOON + MINUTE, 1.0), (NOON + 2 * MINUTE, 2.0)]


def test_a_sample_given_twice_is_kept_once(stores: Stores) -> None:
    stores.metrics.add([metric(value=1)])
    stores.metrics.add([metric(value=2)])
    assert series(stores, "prod", "bot", "cpu_percent", NOON) == [(NOON, 2.0)]


def test_latest_is_the_newest_sample_of_each_metric_still_reporting(stores: Stores) -> None:
    stores.metrics.add(
        [
            metric(value=1),
            metric(value=2, at=NOON + MINUTE),
            metric("memory", 3),
            metric("gone", 4, at=NOON - timedelta(hours=2)),
        ]
    )
    found = {one.name: one.value for one in stores.metrics.latest("prod")}
    assert found == {"cpu_percent": 2.0, "memory": 3.0}
    assert stores.metrics.latest("dev") == []


def test_samples_of_some_metrics_since_a_moment_are_given_in_order(stores: Stores) -> None:
    stores.metrics.add(
        [
            metric("cpu_usage", 2, at=NOON + MINUTE),
            metric("cpu_usage", 1),
            metric("cpu_usage", 9, at=NOON - MINUTE),
            metric("load_1m", 3),
        ]
    )

    found = stores.metrics.samples_since("prod", ["cpu_usage", "memory_bytes"], NOON)

    assert [(one.name, one.value, one.sampled_at) for one in found] == [
        ("cpu_usage", 1.0, NOON),
        ("cpu_usage", 2.0, NOON + MINUTE),
    ]
    assert stores.metrics.samples_since("dev", ["cpu_usage"], NOON) == []


def test_people_see_the_wide_shape(stores: Stores) -> None:
    stores.metrics.add([metric("cpu_usage", 5), metric("memory_usage", 6), metric("load_1m", 0.5, service="host")])
    with stores.databases["monitoring"].read() as connection:
        services = connection.exec_driver_sql(
            "SELECT timestamp, environment, service, cpu_usage, memory_usage FROM service_metrics"
        ).all()
        host = connection.exec_driver_sql("SELECT environment, load_1m, cpu_usage FROM system_metrics").all()
    assert [(str(row[0])[:19], *row[1:]) for row in services] == [("2026-07-01 12:00:00", "prod", "bot", 5.0, 6.0)]
    assert [tuple(row) for row in host] == [("prod", 0.5, None)]


def seen(stores: Stores, view: str) -> list[dict]:
    with stores.databases["monitoring"].read() as connection:
        rows = connection.exec_driver_sql(f"SELECT * FROM {view}").mappings().all()
    return [dict(row) | {"timestamp": str(row["timestamp"])[:19]} for row in rows]


def test_people_see_hours_with_their_percentiles(stores: Stores) -> None:
    stores.metrics.add([metric(value=place, at=NOON + place * MINUTE / 2) for place in range(100)])
    compress_monitoring(stores, NOON + timedelta(hours=4))
    [hour] = seen(stores, "metrics_by_hour")
    assert (hour["timestamp"], hour["service"], hour["samples"]) == ("2026-07-01 12:00:00", "bot", 100)
    assert (hour["minimum"], hour["mean"], hour["maximum"]) == (0, 49.5, 99)
    assert hour["p95"] == pytest.approx(94, rel=0.03)
    [day] = seen(stores, "metrics_by_day")
    assert {**hour, "timestamp": "2026-07-01 00:00:00"} == day


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_and_said_of_whom(stores: Stores, value: float) -> None:
    with pytest.raises(StoreConstraintError, match="prod/bot/cpu_percent is"):
        stores.metrics.add([metric(value=value)])


def test_a_name_with_a_changing_part_cannot_fill_the_disk(stores: Stores, monkeypatch) -> None:
    monkeypatch.setattr(series_of_stores, "SERIES_LIMIT", 3)
    kept = stores.metrics.add([metric(f"m{place}") for place in range(5)])
    again = stores.metrics.add([metric(f"m{place}", at=NOON + MINUTE) for place in range(5)])
    assert (kept, again) == (3, 3)
    with stores.databases["monitoring"].read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dead_letters").scalar() == 1


def test_what_detectors_learnt_is_kept_by_service_and_metric(stores: Stores) -> None:
    for states in ({("bot", "cpu"): b"\x00one", ("bot", "mem"): b"two"}, {("bot", "cpu"): b"three"}):
        stores.evaluations.record(EvaluationRecord(environment="prod", evaluated_at=NOON, states=states))
    assert stores.baselines.states("prod") == {("bot", "cpu"): b"three", ("bot", "mem"): b"two"}


def test_an_alert_is_opened_once_changed_and_resolved_once(stores: Stores) -> None:
    put_alerts(stores, ALERT, ALERT)
    assert stores.alerts.latest("prod") == [ALERT]
    louder = replace(ALERT, severity=AlertSeverity.CRITICAL, reason="CPU 99 %")
    done = replace(louder, state=AlertState.RESOLVED, resolved_at=NOON + MINUTE)
    put_alerts(stores, louder, done, replace(done, resolved_at=NOON), ALERT)
    assert stores.alerts.latest(state=AlertState.OPEN) == []
    assert stores.alerts.latest(state=AlertState.RESOLVED) == [done]


def test_probes_scores_and_heartbeats_are_given_back(stores: Stores) -> None:
    score = RecordedScore(
        environment="prod",
        service="bot",
        score=87.5,
        grade="B",
        scored_at=NOON,
        parts={"uptime": 99.0},
        suggestions=("fewer restarts",),
    )
    stores.health.record_probes([PROBE], "prod")
    put_score(stores, score)
    stores.heartbeats.beat("collection", NOON)
    stores.heartbeats.beat("collection", NOON + MINUTE)
    [probe] = probe_rows(stores)
    assert (probe["service"], probe["target"], probe["ok"], probe["latency_ms"]) == ("bot", PROBE.target, True, 3.5)
    assert probe["checked_at"] == NOON
    assert stores.health.scores("prod", "bot") == [score]
    assert stores.heartbeats.all() == {"collection": NOON + MINUTE}


def test_the_latest_of_all_environments_is_the_latest_of_each(stores: Stores) -> None:
    for name, minutes in (("prod", 3), ("dev", 2), ("old", 1)):
        for minute in range(minutes):
            at = NOON + minute * MINUTE if name != "old" else NOON - MINUTE
            stores.health.record(replace(REPORT, environment=name, checked_at=at))
            for service in ("web", "bot", "gone")[: 3 if minute == 0 and name == "prod" else 2]:
                earlier = timedelta(minutes=20 if service == "gone" else 0)
                one = RecordedScore(environment=name, service=service, score=minute, grade="F", scored_at=at - earlier)
                put_score(stores, one)

    assert stores.health.latest_reports(NOON) == {name: stores.health.history(name)[0] for name in ("dev", "prod")}
    of_each = [one for name in ("dev", "old", "prod") for one in stores.health.latest_scores(name)]
    assert stores.health.all_latest_scores(NOON - 30 * MINUTE) == of_each
    assert [(one.environment, one.service) for one in of_each if one.environment == "prod"] == [
        ("prod", "bot"),
        ("prod", "web"),
    ]


def test_answers_of_probes_are_counted_by_service_and_day(stores: Stores) -> None:
    day = timedelta(days=1)
    web = replace(PROBE, service="web")
    before = replace(PROBE, checked_at=NOON - day)
    stores.health.record_probes([PROBE, replace(PROBE, ok=False), before, web], "prod")
    stores.health.record_probes([PROBE], "dev")

    assert stores.health.answers_by_day("prod", NOON - day) == [
        AnswersOfDay(service="bot", day=(NOON - day).date(), share=Share(good=1, total=1)),
        AnswersOfDay(service="bot", day=NOON.date(), share=Share(good=1, total=2)),
        AnswersOfDay(service="web", day=NOON.date(), share=Share(good=1, total=1)),
    ]
    assert [one.share.total for one in stores.health.answers_by_day("prod", NOON)] == [2, 1]
    assert stores.health.answers_by_day("shop", NOON - day) == []


def test_a_number_that_json_lacks_does_not_make_invalid_json(stores: Stores) -> None:
    score = RecordedScore(
        environment="prod", service="bot", score=0, grade="F", scored_at=NOON, parts={"uptime": float("nan")}
    )
    put_score(stores, score)
    [found] = stores.health.scores("prod")
    assert found.parts == {"uptime": None}


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0, -7.5, 12345.678, 1e12])
def test_a_sketch_of_one_number_is_near_it(value: float) -> None:
    sketch = Sketch.from_values([value])
    assert Sketch.from_bytes(sketch.to_bytes()).quantile(0.5) == pytest.approx(value, rel=0.0201, abs=1e-9)


def test_sketches_added_together_are_the_sketch_of_all() -> None:
    left, right = [1.0, 5.0, 9.0], [2.0, 400.0]
    both = Sketch.from_values(left).merge(Sketch.from_values(right))
    assert both == Sketch.from_values(left + right)
    assert both.quantile(0) == pytest.approx(1, rel=0.0201)
    assert both.quantile(0.5) == pytest.approx(5, rel=0.0201)
    assert both.quantile(1) == pytest.approx(400, rel=0.0201)
