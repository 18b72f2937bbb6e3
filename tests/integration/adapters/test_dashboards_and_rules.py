"""Dashboards and alert rules ask only for what the exporter shows, as a real Prometheus answers them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from adapters.prometheus.exporter import StoreCollector, metrics_server
from adapters.prometheus.monitoring_figures import OF_HOSTS, OF_SERVICES
from adapters.redis_cache import RedisCache
from adapters.stores import Stores
from adapters.stores.sql import table
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.health import Health, HealthReport, ProbeResult, RecordedScore, ServiceHealth, ServiceVerdict
from models.hosts import SILENT_AFTER, SKEW_ALERTS_OVER, HostIdentity
from models.metrics import HOST, Alert, AlertSeverity, AlertState, Baseline, Dependency, Metric, Prediction
from models.operations import INTERRUPTION_SECONDS, Operation, OperationStatus, OperationType, StateChange
from models.operations.record import read_record
from models.records import EvaluationRecord
from models.recovery import RecoveryExecution, Ticket
from models.settings import Settings
from models.snapshots import DataSnapshot, Rehearsal, SnapshotState
from models.tables.deployment_logs import HostRow
from tests.support import patient_http
from tests.support.dashboards import DASHBOARDS, FOLDER, addresses, panels, queries
from tests.support.prometheus_server import PrometheusForTests, prometheus, prometheus_needed, running_prometheus
from tests.support.store_rows import put_alerts

ROOT = Path(__file__).parents[3]
RULES_FILE = ROOT / "deployments/prometheus/rules/roas.yml"
RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]]
RUNBOOK_PAGE = ROOT / "deployments/images/prometheus/runbook-page"
RULE_TESTS = Path(__file__).with_name("alert_rules.yml")
_ANSWER_WITHIN = 300.0
"""Seconds: a rate needs two scrapes within a minute, and on a busy machine a scrape of all stores takes many."""


@pytest.mark.campaign(seconds=15)
@prometheus_needed
def test_promtool_accepts_the_rules_and_each_fires_when_it_should_and_only_then() -> None:
    for arguments in (["check", "rules", str(RULES_FILE)], ["test", "rules", str(RULE_TESTS)]):
        checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@prometheus_needed
def test_prometheus_serves_the_runbook_with_every_heading_that_a_rule_links_to(tmp_path: Path) -> None:
    runbook = (ROOT / "docs/runbook.md").read_text() + "\n### Braces, as in `{{ .State }}` & <this>\n{{ .Names }}\n"
    made = subprocess.run([RUNBOOK_PAGE], input=runbook, capture_output=True, text=True, check=True).stdout
    (tmp_path / "consoles").mkdir()
    (tmp_path / "consoles/runbook.html").write_text(made)
    (tmp_path / "prometheus.yml").write_text("{}")
    consoles = f"--web.console.templates={tmp_path / 'consoles'}"
    with running_prometheus(tmp_path / "prometheus.yml", tmp_path / "data", consoles) as server:
        page = patient_http.get(f"{server.url}/consoles/runbook.html")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    linked = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in RULES}
    assert linked <= set(re.findall(r'id="([^"]+)"', page.text))
    assert '<a href="#memory-near-its-limit">Memory near its limit</a>' in page.text
    assert '<h3 id="braces-as-in--state---this">Braces, as in `{{ .State }}` &amp; &lt;this&gt;</h3>' in page.text
    assert "\n{{ .Names }}\n" in page.text


def test_each_rule_is_tested() -> None:
    tested = {
        one["alertname"] for case in yaml.safe_load(RULE_TESTS.read_text())["tests"] for one in case["alert_rule_test"]
    }
    assert tested == {rule["alert"] for rule in RULES}


def test_a_host_is_skewed_and_silent_in_the_rules_where_it_is_so_in_the_fleet() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    assert f"> {SKEW_ALERTS_OVER.total_seconds():g} " in expressions["RoasHostClockSkewed"]
    assert expressions["RoasHostSilent"] == "roas_host_silent == 1"


@prometheus_needed
def test_a_real_prometheus_raises_an_alert_of_the_host_that_the_fleet_calls_silent(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", environments_dir=tmp_path)
    with Stores.open(settings) as stores:
        for name in ("alpha", "beta"):
            stores.hosts.report(HostIdentity(host_id=f"h-{name}", name=name), version="1", engine="", backlog=0)
        with stores.databases["deployment_logs"].write() as connection:
            before = datetime.now(UTC) - SILENT_AFTER
            connection.execute(
                sa.update(table(HostRow)).where(table(HostRow).c.host_id == "h-alpha").values(last_contact=before)
            )
        assert [one.host.name for one in stores.hosts.notice()] == ["alpha"]
        collector = StoreCollector(stores, settings, RedisCache("redis://127.0.0.1:1/0"))
        with (
            metrics_server(collector, "127.0.0.1", 0) as exporter,
            prometheus(tmp_path, exporter.split("/")[2], RULES_FILE) as server,
        ):
            raised = 'ALERTS{alertname="RoasHostSilent"}'
            deadline = time.monotonic() + _ANSWER_WITHIN
            while not (found := server.ask(raised)):
                assert time.monotonic() < deadline
                stores.hosts.report(HostIdentity(host_id="h-beta", name="beta"), version="1", engine="", backlog=0)
                time.sleep(0.2)
            assert {one["metric"]["host"] for one in found} == {"alpha"}


def test_prometheus_is_reported_of_the_rules() -> None:
    [pattern] = yaml.safe_load((ROOT / "deployments/prometheus/prometheus.yml").read_text())["rule_files"]
    assert fnmatch(f"/config/rules/{RULES_FILE.name}", pattern)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_formatted_as_grafana_exports_it_and_named_by_its_identifier(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert (FOLDER / name).read_text() == json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
    assert name == f"{dashboard['uid']}.json"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_asks_the_data_source_and_the_environment_that_a_person_chose(name: str) -> None:
    dashboard = DASHBOARDS[name]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels(dashboard):
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]
        assert panel["description"], panel["title"]
        shows_only_now = panel["type"] in ("stat", "bargauge", "table")
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
            assert (target["instant"], target["range"]) == (shows_only_now, not shows_only_now), panel["title"]
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*variables, "__rate_interval"}, panel["title"]
            about = re.findall(r'environment=~?"([^"]*)"', target["expr"])
            assert set(about) <= {"$environment"}, panel["title"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_number_has_a_unit(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        settings = panel["fieldConfig"]
        units = [one["value"] for its in settings["overrides"] for one in its["properties"] if one["id"] == "unit"]
        assert settings["defaults"].get("unit") or units, panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_link_leads_to_a_dashboard_with_the_variables_that_it_sets_or_to_a_run(name: str) -> None:
    variables = {
        uid: {one["name"] for one in dashboard["templating"]["list"]}
        for uid, dashboard in ((one["uid"], one) for one in DASHBOARDS.values())
    }
    mine = variables[DASHBOARDS[name]["uid"]]
    found = addresses(DASHBOARDS[name]["panels"])
    assert found
    for address in found:
        path, _, query = address.partition("?")
        used = {one for one in re.findall(r"\$\{(\w+)", address) if not one.startswith("__")}
        assert used <= mine, address
        if path.startswith("/d/"):
            assert set(re.findall(r"var-(\w+)=", query)) <= variables[path.removeprefix("/d/")], address
            assert "${__url_time_range}" in query, address
        else:
            assert path == "${prefect_ui}/runs/flow-run/${__value.text}", address


def test_panels_lead_from_all_environments_to_one_to_a_service_and_an_operation_and_its_run() -> None:
    leads = {
        dashboard["uid"]: {
            "run" if "/runs/flow-run/" in address else address.partition("?")[0].removeprefix("/d/")
            for address in addresses(dashboard["panels"])
        }
        for dashboard in DASHBOARDS.values()
    }
    assert {"roas-environment", "roas-service", "roas-operations"} <= leads["roas-overview"]
    assert {"roas-service", "roas-operations", "run"} <= leads["roas-environment"]
    assert {"roas-environment", "run"} <= leads["roas-operations"]
    assert {"roas-environment", "run"} <= leads["roas-service"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_deployments_rollbacks_and_recoveries_are_marked_at_the_time_they_ended(name: str) -> None:
    marks = {mark["name"]: mark for mark in DASHBOARDS[name]["annotations"]["list"]}
    assert set(marks) == {"Deployments", "Rollbacks", "Recoveries"}
    for mark in marks.values():
        assert mark["useValueForTime"], mark["name"]
        assert mark["expr"].endswith("* 1000"), mark["name"]
    assert "{{release}}" in marks["Deployments"]["textFormat"]
    assert "{{rollback_to}}" in marks["Rollbacks"]["titleFormat"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_lies_on_another_or_beyond_the_edge(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        mine = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & mine, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= mine


def test_grafana_is_reported_of_the_source_and_the_folder_that_compose_mounts() -> None:
    provisioning = ROOT / "deployments/grafana/provisioning"
    source, manager = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"], bool(source["uid"])) == ("prometheus", True, True)
    (provider,) = yaml.safe_load((provisioning / "dashboards/dashboards.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    places = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert places["./deployments/grafana/dashboards"] == provider["options"]["path"]
    assert source["url"] == "http://prometheus:9090"
    assert manager["url"] == "http://alertmanager:9093"
    assert {"prometheus", "alertmanager"} <= set(compose)
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


@prometheus_needed
def test_every_panel_shows_data_and_every_rule_can_be_judged(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", environments_dir=tmp_path / "environments")
    settings.environments_dir.mkdir()
    (settings.environments_dir / "prod.yaml").write_text(
        "name: prod\nproject: prod\ncompose_files: [compose.yaml]\n"
        "data: {save: [{kind: files, volume: uploads}], max_age_hours: 26}\n"
    )
    with Stores.open(settings) as stores:
        _fill(stores)
        collector = StoreCollector(stores, settings, RedisCache("redis://127.0.0.1:1/0"))
        with (
            metrics_server(collector, "127.0.0.1", 0) as exporter,
            prometheus(tmp_path, exporter.split("/")[2], RULES_FILE) as server,
        ):
            asked = queries("prod", "bot")
            asked_by_rules = {name for rule in RULES for name in re.findall(r"\broas_\w+", rule["expr"])}
            _await_data(server, asked | {name: name for name in asked_by_rules}, stores)
            for rule in server.rules():
                assert rule["health"] == "ok", rule


def _await_data(server: PrometheusForTests, asked: dict[str, str], stores: Stores) -> None:
    """Until every query has an answer: a rate needs a second scrape, and an increase something that happens."""
    deadline, number = time.monotonic() + _ANSWER_WITHIN, 0
    while asked:
        assert time.monotonic() < deadline, f"no data: {asked}"
        number += 1
        _happen(stores, number)
        # Hundreds of questions at once would keep the exporter, which is this process, from answering a scrape.
        time.sleep(1)
        asked = {name: query for name, query in asked.items() if not server.ask(query)}


def _error(number: int) -> RecordedError:
    now = datetime.now(UTC)
    return RecordedError(
        error_id=f"e{number}",
        environment="prod",
        text=f"bind {number}: address already in use",
        source="startup",
        verdict=Verdict(
            category=Category.PORT_CONFLICT,
            severity=Severity.HIGH,
            strategy=Strategy.FREE_PORT,
            confidence=0.9,
            reason="a port is taken",
            template=f"bind {number}",
        ),
        first_seen=now,
        last_seen=now,
        service="bot",
    )


def _alert(number: int) -> Alert:
    return Alert(
        alert_id=f"a{number}",
        environment="prod",
        service="bot",
        metric="cpu_usage",
        severity=AlertSeverity.WARNING,
        reason="CPU 93 %",
        opened_at=datetime.now(UTC),
    )


def _fill(stores: Stores) -> None:
    """One of everything that there may be."""
    now = datetime.now(UTC)
    probe = ProbeResult(
        service="bot", kind="http", target="http://bot/", ok=True, detail="200", checked_at=now, latency_ms=3.5
    )
    bot = ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="answers", probes=(probe,))
    report = HealthReport(environment="prod", overall=Health.HEALTHY, checked_at=now, services=(bot,))
    names = [("bot", name) for name in OF_SERVICES] + [(HOST, name) for name in OF_HOSTS]
    usual = Baseline(service="bot", metric="", value=1, warning=2, critical=3, created_at=now, updated_at=now)
    prediction = Prediction(
        prediction_id="p1",
        environment="prod",
        service=HOST,
        metric="disk_usage",
        value=80,
        threshold=95,
        falling=False,
        made_at=now,
        expected=now + timedelta(hours=9),
        earliest=now + timedelta(hours=7),
        latest=now + timedelta(hours=12),
        words="full in 9 h",
    )
    parts = {"uptime": 99.0, "coverage": 1.0, "low": 80.0, "high": 100.0}
    stores.health.record(report)
    stores.metrics.add(
        [
            Metric(environment="prod", service=service, name=name, value=1, sampled_at=now - timedelta(seconds=1))
            for service, name in names
        ]
    )
    stores.evaluations.record(
        EvaluationRecord(
            environment="prod",
            evaluated_at=now,
            baselines=[replace(usual, service=service, metric=metric) for service, metric in names],
            dependencies=[
                Dependency(service="bot", depends_on="redis", last_check=now),
                Dependency(service="web", depends_on="bot", last_check=now),
            ],
            alerts=[_alert(0)],
            predictions=[prediction],
            scores=[
                RecordedScore(environment="prod", service="bot", score=93, grade="A", scored_at=now, parts=parts),
            ],
        )
    )
    stores.heartbeats.beat("watch/prod", now)
    host = HostIdentity(host_id="h-1", name="alpha")
    stores.hosts.report(host, version="1", engine="unix:///var/run/docker.sock", backlog=0)
    stores.hosts.bind("prod", host)
    snapshot = DataSnapshot(snapshot_id="s0", environment="prod", begun_at=now)
    stores.snapshots.begin(snapshot)
    stores.snapshots.end(replace(snapshot, state=SnapshotState.WHOLE, ended_at=now))
    stores.snapshots.record_rehearsal(snapshot, now, Rehearsal(ok=True, seconds=1.0))
    stores.errors.record(_error(0))
    stores.tickets.open(Ticket(ticket_id="t0", error_id="e0", environment="prod", title="free it", opened_at=now))


def _happen(stores: Stores, number: int) -> None:
    """An operation that ends, an error that is recovered from, an alert that is over."""
    now = datetime.now(UTC)
    operation = Operation(
        deployment_id=f"prod-{number}",
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=now,
    )
    stores.operations.begin(operation)
    ended = OperationStatus.SUCCESS if number % 2 else OperationStatus.FAILED
    details: dict[str, object] = {"release": f"r{number}"} if number % 2 else {"rolled_back_to": f"r{number - 1}"}
    details["source"] = {"revision": f"{number:040x}"}
    stores.operations.finish(operation.deployment_id, ended, now, read_record(details))
    interrupted = {INTERRUPTION_SECONDS: 1.5}
    change = StateChange(
        deployment_id=operation.deployment_id,
        service="bot",
        previous_state="running",
        new_state="running",
        changed_at=now,
        reason="replaced",
        details=interrupted,
    )
    stores.progress.record_changes([change])
    error = _error(number)
    stores.errors.record(error)
    tried = RecoveryExecution(
        attempt_id=f"{error.error_id}-1", error_id=error.error_id, strategy=Strategy.FREE_PORT, started_at=now
    )
    done = replace(tried, ended_at=now, success=bool(number % 2), final_status="done")
    stores.recoveries.record(tried)
    stores.recoveries.record(done)
    stores.errors.resolve(error.error_id, now, "freed")
    put_alerts(stores, replace(_alert(number), state=AlertState.RESOLVED, resolved_at=now))
