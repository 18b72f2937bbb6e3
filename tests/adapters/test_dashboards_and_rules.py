"""Dashboards and alert rules ask only for what the exporter shows, as a real Prometheus answers them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from adapters.prometheus_exporter import MetricsServer, StoreCollector
from adapters.stores import Stores
from models.errors_seen import Category, RecordedError, Severity, Strategy, Verdict
from models.health import Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Dependency, Metric
from models.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deployments/grafana/dashboards/roas-overview.json").read_text())
RULES_FILE = ROOT / "deployments/prometheus/rules/roas.yml"
RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]]
RULE_TESTS = Path(__file__).with_name("alert_rules.yml")

prometheus_needed = pytest.mark.skipif(
    not shutil.which("prometheus") or not shutil.which("promtool"), reason="prometheus is not installed"
)


@prometheus_needed
def test_promtool_accepts_the_rules_and_each_fires_when_it_should_and_only_then() -> None:
    for arguments in (["check", "rules", str(RULES_FILE)], ["test", "rules", str(RULE_TESTS)]):
        checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_rule_is_tested() -> None:
    tested = {
        one["alertname"] for case in yaml.safe_load(RULE_TESTS.read_text())["tests"] for one in case["alert_rule_test"]
    }
    assert tested == {rule["alert"] for rule in RULES}


def test_each_rule_names_a_heading_of_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().strip().replace(" ", "-") for heading in headings}
    for rule in RULES:
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (file, anchor in anchors) == ("docs/runbook.md", True), rule["alert"]


def test_prometheus_is_told_of_the_rules() -> None:
    [pattern] = yaml.safe_load((ROOT / "deployments/prometheus/prometheus.yml").read_text())["rule_files"]
    assert fnmatch(f"/config/rules/{RULES_FILE.name}", pattern)


def test_every_panel_asks_the_data_source_that_a_person_chose() -> None:
    for panel in _panels():
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}, panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@prometheus_needed
def test_every_panel_shows_data_and_every_rule_can_be_judged(prometheus: str) -> None:
    queries = {target["expr"] for panel in _panels() for target in panel["targets"]}
    assert _without_data(prometheus, {_as_asked(query) for query in queries}) == set()
    asked_by_rules = {name for rule in RULES for name in re.findall(r"\broas_\w+", rule["expr"])}
    # Shown only where there is a cache in Redis.
    assert _without_data(prometheus, asked_by_rules - {"roas_cache_up"}) == set()
    groups = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    assert {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule} == {}


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the exporter on filled stores."""
    settings = Settings(data_dir=tmp_path / "data", environments_dir=tmp_path / "environments")
    with Stores.open(settings) as stores:
        _fill(stores)
        with MetricsServer(StoreCollector(stores, settings), "127.0.0.1", 0) as exporter:
            port = _free_port()
            config = {
                "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
                "rule_files": [str(RULES_FILE)],
                "scrape_configs": [
                    {
                        "job_name": "roas",
                        "static_configs": [{"targets": [exporter.url.split("/")[2]]}],
                    }
                ],
            }
            file = tmp_path / "prometheus.yml"
            file.write_text(yaml.safe_dump(config))
            command = [
                *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
                *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
            ]
            process = subprocess.Popen(command)
            try:
                url = f"http://127.0.0.1:{port}"
                _wait_until_ready(url, process)
                yield url
            finally:
                process.terminate()
                process.wait()


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def _as_asked(query: str) -> str:
    """The query as Grafana sends it."""
    return query.replace("$environment", ".*").replace("$__rate_interval", "1m")


def _without_data(prometheus: str, queries: set[str]) -> set[str]:
    """The queries that still have no answer when a rate has had time for its second scrape."""
    deadline = time.monotonic() + 60
    while queries and time.monotonic() < deadline:
        queries = {query for query in queries if not _ask(prometheus, query)}
    return queries


def _ask(prometheus: str, query: str) -> list[Any]:
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    result: list[Any] = answer["data"]["result"]
    return result


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "prometheus ended"
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("prometheus did not become ready")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _fill(stores: Stores) -> None:
    now = datetime.now(UTC)
    probe = ProbeResult(
        service="bot", kind="http", target="http://bot/", ok=True, detail="200", checked_at=now, latency_ms=3.5
    )
    bot = ServiceVerdict(service="bot", health=ServiceHealth.HEALTHY, reason="answers", probes=(probe,))
    report = HealthReport(environment="prod", overall=Health.HEALTHY, checked_at=now, services=(bot,))
    of_bot = ("cpu_usage", "memory_bytes", "memory_usage", "restarts_total")
    networks = ("network_rx_bytes_total", "network_tx_bytes_total")
    of_host = ("cpu_usage", "memory_usage", "disk_usage", "load_1m", "pressure_cpu", "pressure_memory", "pressure_io")
    names = [*(("bot", name) for name in (*of_bot, *networks)), *((HOST, name) for name in of_host)]
    error = RecordedError(
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
        first_seen=now,
        last_seen=now,
    )
    stores.monitoring.record_health(report)
    stores.monitoring.add_metrics(
        [
            Metric(environment="prod", service=service, name=name, value=1, sampled_at=now - timedelta(seconds=1))
            for service, name in names
        ]
    )
    stores.monitoring.put_dependencies("prod", [Dependency(service="bot", depends_on="redis", last_check=now)])
    stores.monitoring.beat("collection/prod", now)
    stores.errors.record(error)
