"""An alert goes from a rule of Prometheus over Alertmanager to the receiver of the user's own, and only what should."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support import patient_http
from tests.support.alertmanager_server import (
    FOLDER,
    POLL_SECONDS,
    START,
    alertmanager,
    alertmanager_needed,
    config_with,
    environment_of,
    receiver,
)
from tests.support.prometheus_server import PrometheusForTests, prometheus_needed, running_prometheus

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deployments/prometheus"
GROUPS = yaml.safe_load((PROMETHEUS / "rules/roas.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECEIVERS = ["webhook", "slack", "discord", "teams"]
FIGURES = """\
roas_store_readable{store="errors"} 0
roas_environment_health{environment="prod",health="unhealthy"} 1
roas_environment_health{environment="prod",health="degraded"} 0
"""

pytestmark = [alertmanager_needed]


@prometheus_needed
def test_alerts_about_the_system_arrive_with_their_links_and_those_about_applications_do_not(tmp_path: Path) -> None:
    with (
        receiver() as (received, address),
        alertmanager(tmp_path, config_with(tmp_path, address), "webhook") as manager,
        _prometheus(tmp_path, manager) as (server, exporter),
    ):
        post = received.wait_for("RoasStoreUnreadable")
        [alert] = post["alerts"]
        assert (post["status"], post["receiver"], post["groupLabels"]) == ("firing", "webhook", {})
        assert alert["labels"] == {
            "alertname": "RoasStoreUnreadable", "store": "errors", "severity": "critical", "about": "system",
            "instance": exporter.address, "job": "roas",
        }  # fmt: skip
        assert alert["annotations"]["runbook_url"] == "https://ops.example/runbook#a-store-cannot-be-read"
        # Alertmanager has the one about an application too, but no receiver for it.
        _until(lambda: "RoasEnvironmentUnhealthy" in _known(manager))
        assert _known(manager)["RoasEnvironmentUnhealthy"] == ["none"]
        exporter.end()
        gone = received.wait_for("RoasExporterGone")
        assert "RoasExporterGone" in server.firing()
        assert {one["labels"]["alertname"] for one in gone["alerts"]} <= {"RoasExporterGone", "RoasStoreUnreadable"}
        assert not [post for post in received.posted if "RoasEnvironment" in str(post)]


@pytest.mark.parametrize("name", RECEIVERS)
def test_each_kind_of_receiver_gets_the_summary_and_the_link(name: str, tmp_path: Path) -> None:
    with (
        receiver() as (received, address),
        alertmanager(tmp_path, config_with(tmp_path, address), name) as manager,
    ):
        said = {"summary": "The exporter does not answer.", "runbook_url": "https://ops.example/runbook#the-exporter"}
        labels = {"alertname": "RoasExporterGone", "severity": "critical", "about": "system"}
        patient_http.post(f"{manager}/api/v2/alerts", json=[{"labels": labels, "annotations": said}]).raise_for_status()
        post = str(received.wait_for("The exporter does not answer."))
        assert "https://ops.example/runbook#the-exporter" in post
        assert "critical" in post


def test_an_alert_that_a_worse_one_of_its_environment_explains_is_not_sent(tmp_path: Path) -> None:
    with (
        receiver() as (received, address),
        alertmanager(tmp_path, config_with(tmp_path, address), "webhook") as manager,
    ):
        sent = [
            {"labels": {"alertname": name, "severity": severity, "about": "system", "environment": environment}}
            for name, severity, environment in (
                ("RoasCollectionSilent", "critical", "prod"),
                ("RoasWatchSilent", "warning", "prod"),
                ("RoasWatchSilent", "warning", "dev"),
            )
        ]
        patient_http.post(f"{manager}/api/v2/alerts", json=sent).raise_for_status()
        assert received.wait_for('"dev"')["groupLabels"] == {"environment": "dev"}
        prod = received.wait_for('"prod"')
        assert [one["labels"]["alertname"] for one in prod["alerts"]] == ["RoasCollectionSilent"]


@pytest.mark.parametrize("name", ["none", *RECEIVERS])
def test_alertmanager_accepts_its_configuration_and_routes_by_what_an_alert_is_about(name: str, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    text = (FOLDER / "alertmanager.yml").read_text()
    assert text.count("receiver: none  # ALERT_RECEIVER\n") == 1
    config.write_text(text.replace("receiver: none  # ALERT_RECEIVER\n", f"receiver: {name}\n"))
    assert subprocess.run(["amtool", "check-config", config], capture_output=True, check=False).returncode == 0
    for labels, expected in (("about=system", name), ("environment=prod", "none")):
        tested = subprocess.run(
            ["amtool", "config", "routes", "test", f"--config.file={config}", labels],
            capture_output=True,
            text=True,
            check=True,
        )
        assert tested.stdout.strip() == expected


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("webhook", "", "webhook has no address: name the file that holds it in ROAS_ALERT_URL_FILE"),
        ("pager", "http://127.0.0.1", "is not valid with the receiver pager"),
        ("a/b", "http://127.0.0.1", "ROAS_ALERT_RECEIVER may have letters"),
    ],
)
def test_a_receiver_that_cannot_be_used_is_refused_with_the_reason(
    name: str, address: str, said: str, tmp_path: Path
) -> None:
    variables = environment_of(tmp_path, config_with(tmp_path, address), name)
    started = subprocess.run(["sh", START], env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert started.returncode == 1
    assert said in started.stderr


def test_who_notifies_of_a_rule_is_said_by_its_label() -> None:
    about_system = {rule["alert"] for rule in RULES if rule["labels"].get("about") == "system"}
    assert {"RoasExporterGone", "RoasStoreUnreadable", "RoasCollectionSilent", "RoasWatchSilent"} <= about_system
    assert not {"RoasServiceDown", "RoasOperationFailed", "RoasTicketWaits", "RoasCriticalError"} & about_system
    assert {rule["labels"].get("about", "system") for rule in RULES} == {"system"}


class _Exporter:
    """Shows fixed figures until it is ended."""

    def __init__(self) -> None:
        class AlertHandler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(FIGURES.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), AlertHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,))
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def end(self) -> None:
        """Close its port; again it does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextmanager
def _prometheus(folder: Path, manager: str) -> Iterator[tuple[PrometheusForTests, _Exporter]]:
    """The deployed configuration, at addresses of this test and without waiting."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    rules = [{**group, "rules": [{**rule, "for": "1s"} for rule in group["rules"]]} for group in GROUPS]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": rules}))
    exporter = _Exporter()
    try:
        config["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(folder / "rules.yml")]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [manager.removeprefix("http://")]}]}]
        config["scrape_configs"] = [{"job_name": "roas", "static_configs": [{"targets": [exporter.address]}]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with running_prometheus(
            *(folder / "prometheus.yml", folder / "tsdb", "--enable-feature=expand-external-labels"),
            variables={"ROAS_RUNBOOK_URL": "https://ops.example/runbook"},
        ) as server:
            yield server, exporter
    finally:
        exporter.end()


def _known(manager: str) -> dict[str, list[str]]:
    """The receivers of each alert that Alertmanager knows, by its name."""
    alerts = patient_http.get(f"{manager}/api/v2/alerts").json()
    return {one["labels"]["alertname"]: [to["name"] for to in one["receivers"]] for one in alerts}


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
