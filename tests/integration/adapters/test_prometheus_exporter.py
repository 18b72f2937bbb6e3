"""The exporter serves the content of the stores over a real socket in the format of Prometheus."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.prometheus.exporter import StoreCollector, metrics_server, serve_metrics
from adapters.prometheus.latest_ends import LATEST
from adapters.prometheus.monitoring_figures import FRESH
from adapters.redis_cache import RedisCache
from adapters.stores import Stores
from core.monitoring.measurements import service_metrics, store_metric, system_metrics
from models.containers import ContainerState, ServiceSample, SystemSample
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.failures import RoasError
from models.health import Health, HealthReport, ProbeResult, RecordedScore, ServiceHealth, ServiceVerdict
from models.metrics import (
    HOST,
    Alert,
    AlertSeverity,
    AlertState,
    Baseline,
    Dependency,
    DependencyStatus,
    Metric,
    Prediction,
    PredictionOutcome,
)
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import read_record
from models.records import EvaluationRecord
from models.recovery import RecoveryExecution, Ticket
from models.settings import Settings
from models.tables.deployment_logs import DeploymentOperation
from tests.support import patient_http
from tests.support.store_rows import put_alerts, put_needs, put_score, put_usual

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PROBE = ProbeResult(
    service="bot", kind="http", target="http://bot/", ok=True, detail="200", checked_at=NOON, latency_ms=3.5
)
REPORT = HealthReport(
    environment="prod",
    overall=Health.DEGRADED,
    checked_at=NOON,
    services=(
        ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="answers", probes=(PROBE,)),
        ServiceVerdict(service="web", health=ServiceHealth.STOPPED, reason="gone", required=False),
    ),
)
START = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.RUNNING,
    started_at=NOON,
)
ERROR = RecordedError(
    error_id="e1",
    environment="prod",
    text="bind: address already in use",
    source="startup",
    verdict=Verdict(
        category=Category.PORT_CONFLICT,
        severity=Severity.HIGH,
        strategy=Strategy.FREE_PORT,
        confidence=0.9,
        reason="a port is taken",
        template="bind",
    ),
    first_seen=NOON,
    last_seen=NOON,
    service="bot",
)
EXECUTION = RecoveryExecution(attempt_id="e1-1", error_id="e1", strategy=Strategy.FREE_PORT, started_at=NOON)
ALERT = Alert(
    alert_id="a1",
    environment="prod",
    service="bot",
    metric="cpu_usage",
    severity=AlertSeverity.WARNING,
    reason="CPU 93 %",
    opened_at=NOON,
)
PREDICTION = Prediction(
    prediction_id="p1",
    environment="prod",
    service=HOST,
    metric="disk_usage",
    value=80,
    threshold=95,
    falling=False,
    made_at=NOON,
    expected=NOON + timedelta(hours=9),
    earliest=NOON + timedelta(hours=7),
    latest=NOON + timedelta(hours=12),
    words="full in 9 h",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", environments_dir=tmp_path / "environments")


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    with Stores.open(settings) as opened:
        yield opened


@pytest.fixture
def collector(stores: Stores, settings: Settings) -> StoreCollector:
    return StoreCollector(stores, settings, clock=lambda: NOON + SECOND)


@pytest.fixture
def url(collector: StoreCollector) -> Iterator[str]:
    with metrics_server(collector, "127.0.0.1", 0) as served:
        yield served


def test_services_are_shown_up_or_down_with_their_health_and_probes(stores: Stores, url: str) -> None:
    stores.health.record(replace(REPORT, overall=Health.HEALTHY, checked_at=NOON - SECOND))
    stores.health.record(REPORT)
    shown = _scrape(url)
    assert shown["roas_service_up{environment=prod,service=bot}"] == 1
    assert shown["roas_service_up{environment=prod,service=web}"] == 0
    assert shown["roas_service_health{environment=prod,health=stopped,service=web}"] == 1
    assert shown["roas_service_health{environment=prod,health=healthy,service=web}"] == 0
    assert shown["roas_probe_up{environment=prod,kind=http,service=bot}"] == 1
    assert shown["roas_probe_latency_seconds{environment=prod,kind=http,service=bot}"] == 0.0035
    assert shown["roas_environment_health{environment=prod,health=degraded}"] == 1
    assert shown["roas_environment_health{environment=prod,health=healthy}"] == 0
    assert shown["roas_environment_checked_timestamp_seconds{environment=prod}"] == NOON.timestamp()


def test_an_environment_not_judged_lately_is_unknown_and_its_old_figures_are_not_shown(
    stores: Stores, settings: Settings, url: str
) -> None:
    settings.environments_dir.mkdir()
    (settings.environments_dir / "prod.yaml").touch()
    long_ago = NOON - FRESH
    stores.health.record(replace(REPORT, checked_at=long_ago))
    stores.metrics.add([_metric("bot", "cpu_usage", 50, long_ago)])
    shown = _scrape(url)
    assert shown["roas_environment_health{environment=prod,health=unknown}"] == 1
    assert shown["roas_environment_health{environment=prod,health=degraded}"] == 0
    assert not [name for name in shown if name.startswith(("roas_service_up", "roas_service_cpu"))]


def test_the_newest_metrics_are_shown_in_base_units(stores: Stores, url: str) -> None:
    stores.metrics.add(
        [
            _metric("bot", "cpu_usage", 99, NOON - SECOND),
            _metric("bot", "cpu_usage", 50, NOON),
            _metric("bot", "memory_bytes", 1024, NOON),
            _metric("bot", "restarts_total", 3, NOON),
            _metric(HOST, "disk_usage", 25, NOON),
        ]
    )
    shown = _scrape(url)
    assert shown["roas_service_cpu_ratio{environment=prod,service=bot}"] == 0.5
    assert shown["roas_service_memory_bytes{environment=prod,service=bot}"] == 1024
    assert shown["roas_service_restarts_total{environment=prod,service=bot}"] == 3
    assert shown["roas_host_disk_ratio{environment=prod}"] == 0.25


def test_every_metric_that_collection_makes_is_shown(stores: Stores, url: str) -> None:
    sample = ServiceSample(
        service="bot",
        container_id="c",
        sampled_at=NOON,
        cpu_total_ns=2,
        memory_bytes=1,
        memory_limit_bytes=2,
    )
    seen = ContainerState(
        container_id="c",
        name="bot",
        service="bot",
        project="p",
        number=1,
        image="i",
        image_id="i",
        state="running",
        seen_at=NOON,
    )
    before = [_metric(name, "cpu_seconds_total", 0, NOON - SECOND) for name in ("bot", "host")]
    host = SystemSample(
        **{name: 1 for name in SystemSample.__dataclass_fields__ if name != "sampled_at"},  # type: ignore[arg-type]
        sampled_at=NOON,
    )
    of_services = service_metrics("prod", [sample], [seen], [PROBE], before)
    of_host = [*system_metrics("prod", host, before), *store_metric("prod", 4096.0, NOON)]
    stores.metrics.add([*of_services, *of_host])
    shown = _scrape(url)
    assert sum(name.startswith("roas_service_") for name in shown) == len(of_services)
    assert sum(name.startswith("roas_host_") for name in shown) == len(of_host)


def test_what_is_usual_is_shown_in_the_unit_of_its_metric(stores: Stores, url: str) -> None:
    usual = Baseline(
        service="bot", metric="cpu_usage", value=20, warning=60, critical=90, created_at=NOON, updated_at=NOON
    )
    of_host = replace(usual, service=HOST, metric="store_bytes", value=4096, warning=None, critical=None)
    of_one_gone = replace(usual, service="gone")
    put_usual(stores, "prod", [usual, of_host, of_one_gone])
    stores.metrics.add([_metric("bot", "cpu_usage", 50, NOON), _metric(HOST, "store_bytes", 5000, NOON)])
    shown = {name: value for name, value in _scrape(url).items() if "baseline" in name}
    assert shown == {
        "roas_service_cpu_baseline_ratio{bound=usual,environment=prod,service=bot}": 0.2,
        "roas_service_cpu_baseline_ratio{bound=warning,environment=prod,service=bot}": 0.6,
        "roas_service_cpu_baseline_ratio{bound=critical,environment=prod,service=bot}": 0.9,
        "roas_host_largest_store_baseline_bytes{bound=usual,environment=prod}": 4096,
    }


def test_scores_are_shown_with_their_parts_bounds_and_coverage(stores: Stores, url: str) -> None:
    parts = {"uptime": 99.0, "dependencies": None, "coverage": 0.75, "low": 80.0, "high": 100.0}
    score = RecordedScore(environment="prod", service="bot", score=93, grade="A", scored_at=NOON, parts=parts)
    stores.health.record(REPORT)
    put_score(stores, score)
    shown = {name: value for name, value in _scrape(url).items() if "_score_" in name}
    assert shown == {
        "roas_service_score_points{environment=prod,service=bot}": 93,
        "roas_service_score_part_points{environment=prod,part=uptime,service=bot}": 99,
        "roas_service_score_bound_points{bound=low,environment=prod,service=bot}": 80,
        "roas_service_score_bound_points{bound=high,environment=prod,service=bot}": 100,
        "roas_service_score_coverage_ratio{environment=prod,service=bot}": 0.75,
    }


def test_predictions_are_shown_while_they_stand_and_counted_by_what_became_of_them(stores: Stores, url: str) -> None:
    stores.evaluations.record(EvaluationRecord(environment="prod", evaluated_at=NOON, predictions=[PREDICTION]))
    shown = _scrape(url)
    when = "roas_prediction_timestamp_seconds{bound=%s,environment=prod,metric=disk_usage,service=host}"
    assert shown[when % "expected"] == PREDICTION.expected.timestamp()
    assert shown[when % "latest"] == PREDICTION.latest.timestamp()
    assert shown["roas_predictions_open{environment=prod}"] == 1
    assert shown["roas_predictions_scored_total{environment=prod,outcome=hit}"] == 0
    came_true = replace(PREDICTION, outcome=PredictionOutcome.HIT, scored_at=NOON)
    stores.evaluations.record(EvaluationRecord(environment="prod", evaluated_at=NOON, predictions=[came_true]))
    shown = _scrape(url)
    assert when % "expected" not in shown
    assert shown["roas_predictions_open{environment=prod}"] == 0
    assert shown["roas_predictions_scored_total{environment=prod,outcome=hit}"] == 1


def test_an_alert_that_another_one_explains_is_not_counted_with_the_causes(stores: Stores, url: str) -> None:
    put_alerts(stores, ALERT)
    put_alerts(stores, replace(ALERT, alert_id="a2", service="web", explained_by="a1"))
    shown = _scrape(url)
    assert shown["roas_alerts_open{environment=prod,severity=warning,state=open}"] == 1
    assert shown["roas_alerts_explained{environment=prod}"] == 1
    assert shown["roas_service_alerts_open{environment=prod,service=web,severity=warning}"] == 1
    stores.alerts.acknowledge("a1", NOON, "mine")
    shown = _scrape(url)
    assert shown["roas_alerts_open{environment=prod,severity=warning,state=open}"] == 0
    assert shown["roas_alerts_open{environment=prod,severity=warning,state=acknowledged}"] == 1


def test_how_long_errors_alerts_and_recoveries_took_is_reported(stores: Stores, url: str) -> None:
    stores.errors.record(ERROR)
    stores.recoveries.record(EXECUTION)
    done = replace(EXECUTION, ended_at=NOON + 1.5 * SECOND, success=True, final_status="freed")
    stores.recoveries.record(done)
    stores.errors.resolve("e1", NOON + 90 * SECOND, "freed")
    put_alerts(stores, ALERT)
    put_alerts(stores, replace(ALERT, state=AlertState.RESOLVED, resolved_at=NOON + 40 * SECOND))
    shown = _scrape(url)
    assert shown["roas_recovery_duration_seconds_sum{environment=prod,success=true}"] == 1.5
    assert shown["roas_recovery_duration_seconds_bucket{environment=prod,le=1.0,success=true}"] == 0
    assert shown["roas_recovery_duration_seconds_bucket{environment=prod,le=2.5,success=true}"] == 1
    assert shown["roas_error_duration_seconds_sum{environment=prod}"] == 90
    assert shown["roas_alert_duration_seconds_sum{environment=prod,severity=warning}"] == 40


def test_an_environment_that_was_stopped_on_request_is_not_wanted(stores: Stores, url: str) -> None:
    wanted = "roas_environment_wanted{environment=prod}"
    stores.operations.begin(START)
    assert _scrape(url)[wanted] == 1
    stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON)
    assert _scrape(url)[wanted] == 1
    later = replace(START, deployment_id="prod-2", operation_type=OperationType.STOP, started_at=NOON + SECOND)
    stores.operations.begin(later)
    stores.operations.finish("prod-2", OperationStatus.SUCCESS, NOON + SECOND)
    looked_at = replace(later, deployment_id="prod-3", operation_type=OperationType.HEALTH_CHECK)
    stores.operations.begin(looked_at)
    stores.operations.finish("prod-3", OperationStatus.SUCCESS, NOON + SECOND)
    assert _scrape(url)[wanted] == 0


def test_figures_of_an_environment_that_is_collected_seldom_are_shown_for_longer(
    stores: Stores, settings: Settings, url: str
) -> None:
    settings.environments_dir.mkdir()
    text = "name: prod\nproject: prod\ncompose_files: [compose.yaml]\ncollect_every_seconds: 1800\n"
    (settings.environments_dir / "prod.yaml").write_text(text)
    an_hour_ago = NOON - timedelta(hours=1)
    stores.health.record(replace(REPORT, checked_at=an_hour_ago))
    stores.metrics.add([_metric("bot", "cpu_usage", 50, an_hour_ago)])
    shown = _scrape(url)
    assert shown["roas_collection_interval_seconds{environment=prod}"] == 1800
    assert shown["roas_environment_health{environment=prod,health=degraded}"] == 1
    assert shown["roas_service_cpu_ratio{environment=prod,service=bot}"] == 0.5


def test_an_environment_that_another_agent_watches_is_not_awaited(stores: Stores, settings: Settings) -> None:
    settings.environments_dir.mkdir()
    for name in ("dev", "prod"):
        text = f"name: {name}\nproject: {name}\ncompose_files: [compose.yaml]\n"
        (settings.environments_dir / f"{name}.yaml").write_text(text)
    left = settings.model_copy(update={"unwatched": "other, dev"})
    with metrics_server(StoreCollector(stores, left), "127.0.0.1", 0) as url:
        shown = _scrape(url)
    assert "roas_collection_interval_seconds{environment=prod}" in shown
    assert "roas_collection_interval_seconds{environment=dev}" not in shown


def test_what_waits_in_the_spool_and_what_was_refused_is_reported(stores: Stores, settings: Settings, url: str) -> None:
    backlog = "roas_store_spool_bytes{store=monitoring}"
    assert _scrape(url)[backlog] == 0
    stores.writer.put_metrics([_metric("bot", "cpu_usage", 50, NOON)])
    assert _scrape(url)[backlog] > 0
    stores.writer.flush()
    shown = _scrape(url)
    assert shown[backlog] == 0
    assert shown["roas_store_dead_letters{store=monitoring}"] == 0


def test_a_writer_is_neither_kept_waiting_by_a_scrape_nor_keeps_one_waiting(stores: Stores, url: str) -> None:
    with stores.databases["monitoring"].write() as connection:
        connection.exec_driver_sql("DELETE FROM alerts")
        assert _scrape(url)["roas_store_readable{store=monitoring}"] == 1
    with stores.databases["monitoring"].read() as reading:
        reading.exec_driver_sql("SELECT * FROM alerts").all()
        put_alerts(stores, ALERT)
    assert _scrape(url)["roas_alerts_open{environment=prod,severity=warning,state=open}"] == 1


def test_an_operation_is_counted_once_when_it_ends(stores: Stores, url: str) -> None:
    stores.operations.begin(START)
    shown = _scrape(url)
    assert shown["roas_operations_running{environment=prod,operation_type=start}"] == 1
    assert shown["roas_operations_total{environment=prod,operation_type=start,status=success}"] == 0
    stores.operations.begin(replace(START, deployment_id="prod-2"))
    stores.operations.finish("prod-2", OperationStatus.SUCCESS, NOON + 200 * SECOND)
    stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON + 7 * SECOND)
    for _ in range(2):
        shown = _scrape(url)
        labels = "environment=prod,operation_type=start,status=success"
        assert shown["roas_operations_running{environment=prod,operation_type=start}"] == 0
        assert shown[f"roas_operations_total{{{labels}}}"] == 2
        assert (
            shown["roas_operation_duration_seconds_bucket{environment=prod,le=5.0,operation_type=start,status=success}"]
            == 0
        )
        assert (
            shown[
                "roas_operation_duration_seconds_bucket{environment=prod,le=10.0,operation_type=start,status=success}"
            ]
            == 1
        )
        assert (
            shown[
                "roas_operation_duration_seconds_bucket{environment=prod,le=+Inf,operation_type=start,status=success}"
            ]
            == 2
        )
        assert shown[f"roas_operation_duration_seconds_count{{{labels}}}"] == 2
        assert shown[f"roas_operation_duration_seconds_sum{{{labels}}}"] == 207


def test_drills_rotations_and_maintenance_are_counted_once_they_end(stores: Stores, url: str) -> None:
    drill = {
        "deployment_id": "d", "container_id": "c", "service": "bot", "fault": "kill", "passed": False,
        "made_at": NOON.isoformat(), "until": NOON.isoformat(),
    }  # fmt: skip
    for number, (flow, status, details) in enumerate(
        [
            ("drill", OperationStatus.SUCCESS, {"drill": drill | {"passed": True}}),
            ("drill", OperationStatus.FAILED, {"drill": drill}),
            ("drill", OperationStatus.FAILED, {}),
            ("rotate-secret", OperationStatus.SUCCESS, {"rotated": "DB_PASSWORD"}),
            ("rotate-secret", OperationStatus.FAILED, {"rotated": "DB_PASSWORD"}),
            ("restart", OperationStatus.SUCCESS, {}),
            ("restart", OperationStatus.FAILED, {}),
            ("stop", OperationStatus.SUCCESS, {}),
        ]
    ):
        kind = OperationType.HEALTH_CHECK if flow == "drill" else OperationType.START
        one = replace(START, deployment_id=f"prod-{number}", operation_type=kind, details={"flow": flow} | details)
        if flow in ("restart", "stop"):
            one = replace(one, user_agent="maintenance-20260701-120000-abcd of host by ann")
        stores.operations.begin(one)
        stores.operations.finish(one.deployment_id, status, NOON + SECOND)
    for _ in range(2):
        shown = _scrape(url)
        for what in ("drills", "rotations", "maintenances"):
            for result in ("success", "failed"):
                assert shown[f"roas_{what}_total{{environment=prod,result={result}}}"] == 1, (what, result)
        assert shown["roas_updates_total{environment=prod,result=failed}"] == 0


def test_needs_are_shown_as_the_files_declare_them(settings: Settings, url: str) -> None:
    settings.environments_dir.mkdir()
    text = "name: prod\nproject: prod\ncompose_files: [compose.yaml]\nneeds: [data/db, proxy]\n"
    (settings.environments_dir / "prod.yaml").write_text(text)
    shown = _scrape(url)
    for need in ("data/db", "proxy"):
        assert shown[f"roas_environment_need{{environment=prod,need={need}}}"] == 1


def test_counters_do_not_fall_when_old_operations_are_archived(stores: Stores, url: str) -> None:
    for number in range(3):
        stores.operations.begin(replace(START, deployment_id=f"prod-{number}"))
        stores.operations.finish(f"prod-{number}", OperationStatus.FAILED, NOON + SECOND)
    counter = "roas_operations_total{environment=prod,operation_type=start,status=failed}"
    assert _scrape(url)[counter] == 3
    with stores.databases["deployment_logs"].write() as connection:
        connection.exec_driver_sql(f"DELETE FROM {DeploymentOperation.__tablename__}")
    assert _scrape(url)[counter] == 3
    stores.operations.begin(replace(START, deployment_id="prod-9"))
    stores.operations.finish("prod-9", OperationStatus.FAILED, NOON + SECOND)
    assert _scrape(url)[counter] == 4


def test_errors_recoveries_tickets_and_alerts_are_shown_until_they_are_settled(stores: Stores, url: str) -> None:
    stores.errors.record(ERROR)
    stores.recoveries.record(EXECUTION)
    assert _scrape(url)["roas_recoveries_total{environment=prod,strategy=free_port,success=false}"] == 0
    stores.recoveries.record(replace(EXECUTION, ended_at=NOON, success=False, final_status="port taken"))
    stores.tickets.open(Ticket(ticket_id="t1", error_id="e1", environment="prod", title="free it", opened_at=NOON))
    stores.pauses.pause("prod", None, None, "maintenance", "me", NOON)
    put_alerts(stores, ALERT)
    shown = _scrape(url)
    assert shown["roas_errors_open{environment=prod,severity=high}"] == 1
    assert shown["roas_errors_open{environment=prod,severity=low}"] == 0
    assert shown["roas_error_causes_open{category=port_conflict,environment=prod}"] == 1
    assert shown["roas_recoveries_total{environment=prod,strategy=free_port,success=false}"] == 1
    assert shown["roas_tickets_open{environment=prod,state=open}"] == 1
    assert shown["roas_alerts_open{environment=prod,severity=warning,state=open}"] == 1
    assert shown["roas_alerts_open{environment=prod,severity=critical,state=open}"] == 0
    assert shown["roas_recovery_pauses{}"] == 1
    stores.errors.resolve("e1", NOON, "freed")
    put_alerts(stores, replace(ALERT, state=AlertState.RESOLVED, resolved_at=NOON))
    put_alerts(stores, replace(ALERT, alert_id="a2", severity=AlertSeverity.INFO))
    shown = _scrape(url)
    assert shown["roas_alerts_open{environment=prod,severity=warning,state=open}"] == 0
    assert shown["roas_errors_open{environment=prod,severity=high}"] == 0


def test_the_latest_operations_are_shown_with_release_rollback_and_run(stores: Stores, url: str) -> None:
    for number, (deployment, details) in enumerate(
        {
            "kept": {"release": "r2", "flow_run_id": "run-1"},
            "undone": {"rolled_back_to": "r1", "flow_run_id": "run-2"},
            "asked": {"release": "r3", "rollback_to": "r1"},
        }.items()
    ):
        stores.operations.begin(replace(START, deployment_id=deployment, started_at=NOON + number * SECOND))
        ended = OperationStatus.FAILED if deployment == "undone" else OperationStatus.SUCCESS
        stores.operations.finish(deployment, ended, NOON + (number + 3) * SECOND, read_record(details))
    stores.operations.begin(replace(START, deployment_id="running"))
    shown = {name: value for name, value in _scrape(url).items() if name.startswith("roas_operation_ended")}
    assert shown == {
        f"roas_operation_ended_timestamp_seconds{{{labels}}}": (NOON + seconds * SECOND).timestamp()
        for labels, seconds in {
            "deployment_id=kept,environment=prod,flow_run_id=run-1,operation_type=start,release=r2,rollback_to=,"
            "status=success": 3,
            "deployment_id=undone,environment=prod,flow_run_id=run-2,operation_type=start,release=,rollback_to=r1,"
            "status=failed": 4,
            "deployment_id=asked,environment=prod,flow_run_id=,operation_type=rollback,release=r3,rollback_to=r1,"
            "status=success": 5,
        }.items()
    }
    assert {value for name, value in _scrape(url).items() if name.startswith("roas_operation_took")} == {3.0}


def test_only_the_latest_operations_and_recoveries_are_shown(stores: Stores, url: str) -> None:
    for number in range(LATEST + 2):
        at = NOON + number * SECOND
        stores.operations.begin(replace(START, deployment_id=f"prod-{number}", started_at=at))
        stores.operations.finish(f"prod-{number}", OperationStatus.SUCCESS, at + SECOND)
        verdict = replace(ERROR.verdict, template=f"{number}")
        stores.errors.record(replace(ERROR, error_id=f"e{number}", verdict=verdict))
        stores.recoveries.record(
            replace(EXECUTION, attempt_id=None, error_id=f"e{number}", started_at=at, ended_at=at, success=number > 2)
        )
    shown = _scrape(url)
    operations = [name for name in shown if name.startswith("roas_operation_ended")]
    recoveries = [name for name in shown if name.startswith("roas_recovery_ended")]
    assert (len(operations), len(recoveries)) == (LATEST, LATEST)
    assert not [name for name in operations if "deployment_id=prod-1," in name]
    [oldest] = [name for name in recoveries if "error_id=e2," in name]
    assert "category=port_conflict,environment=prod" in oldest
    assert "service=bot,strategy=free_port,success=false" in oldest
    assert shown[oldest] == (NOON + 2 * SECOND).timestamp()


def test_only_dependencies_that_are_still_declared_are_shown(stores: Stores, url: str) -> None:
    on_redis = Dependency(service="bot", depends_on="redis", last_check=NOON - SECOND)
    on_web = Dependency(service="bot", depends_on="web", last_check=NOON - SECOND)
    stores.health.record(REPORT)
    put_needs(stores, "prod", [on_redis, on_web])
    put_needs(stores, "prod", [replace(on_redis, last_check=NOON, status=DependencyStatus.FAILED)])
    shown = {name: value for name, value in _scrape(url).items() if name.startswith("roas_dependency_up")}
    labels = "dependency_type=required,depends_on=redis,environment=prod,service=bot"
    assert shown == {f"roas_dependency_up{{{labels}}}": 0}


def test_sizes_of_the_stores_and_heartbeats_are_shown(stores: Stores, settings: Settings, url: str) -> None:
    stores.heartbeats.beat("collection/prod", NOON)
    shown = _scrape(url)
    size = settings.store_path("monitoring").stat().st_size
    assert shown["roas_store_size_bytes{file=database,store=monitoring}"] == size
    assert shown["roas_store_size_bytes{file=wal,store=monitoring}"] > 0
    assert shown["roas_heartbeat_timestamp_seconds{environment=prod,name=collection}"] == NOON.timestamp()
    assert shown["roas_store_disk_free_bytes{}"] > 0
    assert shown["roas_store_readable{store=errors}"] == 1
    assert "roas_store_oldest_timestamp_seconds{store=monitoring}" not in shown
    stores.metrics.add([_metric("bot", "cpu_usage", 99, NOON)])
    assert _scrape(url)["roas_store_oldest_timestamp_seconds{store=monitoring}"] == NOON.timestamp()


def test_waits_of_writers_are_shown(stores: Stores, url: str) -> None:
    assert _scrape(url)["roas_store_lock_waits_total{}"] == 0
    stores.waits.add(1.5)
    shown = _scrape(url)
    assert shown["roas_store_lock_waits_total{}"] == 1
    assert shown["roas_store_lock_wait_seconds_total{}"] == 1.5


def test_a_store_that_cannot_be_read_is_reported_and_the_others_are_shown(
    stores: Stores, settings: Settings, url: str
) -> None:
    assert patient_http.get(url.replace("metrics", "healthz")).text == "ok\n"
    stores.operations.begin(START)
    stores.databases["monitoring"].close()
    settings.store_path("monitoring").write_bytes(b"no database at all" * 1000)
    shown = _scrape(url)
    assert shown["roas_store_readable{store=monitoring}"] == 0
    assert shown["roas_store_readable{store=deployment_logs}"] == 1
    assert shown["roas_operations_running{environment=prod,operation_type=start}"] == 1
    assert not [name for name in shown if name.startswith("roas_heartbeat")]


def test_an_unreadable_row_hides_only_its_own_store(stores: Stores, url: str, caplog: pytest.LogCaptureFixture) -> None:
    stores.operations.begin(START)
    put_alerts(stores, ALERT)
    with stores.databases["monitoring"].write() as connection:
        connection.exec_driver_sql("UPDATE alerts SET opened_at = 'yesterday'")
    shown = _scrape(url)
    assert shown["roas_store_readable{store=monitoring}"] == 0
    assert shown["roas_operations_running{environment=prod,operation_type=start}"] == 1
    assert "store monitoring was left out of a scrape" in caplog.text


def test_a_cache_is_shown_only_where_there_is_one(stores: Stores, settings: Settings, url: str) -> None:
    assert "roas_cache_up{}" not in _scrape(url)
    lost = RedisCache("redis://127.0.0.1:1/0")
    with metrics_server(StoreCollector(stores, settings, lost), "127.0.0.1", 0) as served:
        assert _scrape(served)["roas_cache_up{}"] == 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say_about_any_metric(stores: Stores, url: str) -> None:
    _fill(stores)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=patient_http.get(url).text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_open_metrics_are_spoken_to_those_who_ask(stores: Stores, url: str) -> None:
    _fill(stores)
    answer = patient_http.get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_other_paths_say_what_there_is(url: str) -> None:
    answer = patient_http.get(url.replace("/metrics", "/"))
    assert answer.status_code == 404
    assert "/metrics" in answer.text
    assert patient_http.head(url).content == b""


def test_a_port_in_use_is_reported_with_what_to_try(stores: Stores, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RoasError, match=f"127.0.0.1:{port}") as caught:
            serve_metrics(stores, "127.0.0.1", port, settings)
    assert "--port" in caught.value.advice


def test_an_address_of_another_machine_is_reported(stores: Stores, settings: Settings) -> None:
    with pytest.raises(RoasError) as caught:
        serve_metrics(stores, "192.0.2.1", 0, settings)
    assert "ROAS_METRICS_HOST" in caught.value.advice


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.campaign)])
def test_a_signal_ends_it_cleanly(settings: Settings, number: signal.Signals) -> None:
    program = (
        "import logging, sys\n"
        "from adapters.prometheus.exporter import serve_metrics\n"
        "from adapters.stores import Stores\n"
        "from models.settings import Settings\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "settings = Settings()\n"
        "with Stores.open(settings) as stores:\n"
        "    serve_metrics(stores, '127.0.0.1', 0, settings)\n"
        "print('end')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        env={**os.environ, "ROAS_DATA_DIR": str(settings.data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("serving metrics on "))
        assert "roas_build_info" in patient_http.get(line.split()[-1]).text
        process.send_signal(number)
        rest, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    assert rest.splitlines()[-2:] == ["stopped serving metrics", "end"]
    assert "Traceback" not in wrong


def _fill(stores: Stores) -> None:
    stores.health.record(REPORT)
    stores.metrics.add([_metric("bot", "cpu_usage", 50, NOON), _metric(HOST, "disk_usage", 25, NOON)])
    put_needs(stores, "prod", [Dependency(service="bot", depends_on="redis", last_check=NOON)])
    stores.evaluations.record(
        EvaluationRecord(environment="prod", evaluated_at=NOON, alerts=[ALERT], predictions=[PREDICTION])
    )
    score = RecordedScore(environment="prod", service="bot", score=93, grade="A", scored_at=NOON, parts={"low": 80.0})
    put_score(stores, score)
    usual = Baseline(
        service="bot", metric="cpu_usage", value=20, warning=60, critical=90, created_at=NOON, updated_at=NOON
    )
    put_usual(stores, "prod", [usual])
    stores.operations.begin(START)
    stores.operations.begin(replace(START, deployment_id="prod-2"))
    stores.operations.finish("prod-2", OperationStatus.SUCCESS, NOON + SECOND)
    stores.errors.record(ERROR)
    stores.recoveries.record(replace(EXECUTION, ended_at=NOON, success=True, final_status="done"))


def _metric(service: str, name: str, value: float, at: datetime) -> Metric:
    return Metric(environment="prod", service=service, name=name, value=value, sampled_at=at)


def _scrape(url: str) -> dict[str, float]:
    answer = patient_http.get(url)
    assert answer.status_code == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}"
            assert name not in found, f"{name} is there twice"
            found[name] = sample.value
    return found
