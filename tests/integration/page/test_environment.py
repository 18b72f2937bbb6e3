from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.page.rendering import BASE
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.metrics import Alert, AlertSeverity, Metric, Prediction
from models.operations import Operation, OperationStatus, OperationStep, OperationType
from models.records import EvaluationRecord, Release
from tasks.reporting.read import read_status
from tasks.runtime.stores import open_stores
from tests.integration.page.conftest import HOSTILE
from tests.support.page import Viewer, page_client

NOW = datetime.now(UTC)
SECOND = timedelta(seconds=1)
SHOP = f"{BASE}/environments/shop"


def begin(environment: str) -> None:
    operation = Operation(
        deployment_id=f"{environment}-1",
        operation_type=OperationType.START,
        environment=environment,
        status=OperationStatus.RUNNING,
        started_at=NOW,
        user_agent=HOSTILE,
    )
    open_stores().operations.begin(operation)


def test_the_figures_are_those_of_status(recorded: Path) -> None:
    page = page_client().get(SHOP).text
    status = read_status("shop")[0]

    assert status.health is not None
    for verdict in status.health.services:
        row = re.search(rf'rowheader">{verdict.service}.*?</tr>', page, re.DOTALL)
        assert row is not None
        assert str(verdict.health) in row[0]
    assert all(f"/tickets/{ticket.ticket_id}" in page for ticket in status.open_tickets)
    assert all(alert.reason in page for alert in status.open_alerts)


def test_what_acts_is_shown_to_those_who_may_alone(recorded: Path) -> None:
    assert f"{BASE}/do/restart/shop?service=web" in page_client().get(SHOP).text
    assert f"{BASE}/do/" not in page_client(Viewer(may_write=False)).get(SHOP).text


def test_a_running_operation_is_shown_step_by_step() -> None:
    begin("shop")
    stores = open_stores()
    steps = (
        OperationStep(deployment_id="shop-1", step="validate", finished_at=NOW, detail="21 checks"),
        OperationStep(deployment_id="shop-1", step="found", finished_at=NOW, detail='{"containers": {}}'),
        OperationStep(deployment_id="shop-1", step="serving", finished_at=NOW, service="db", detail="for 10 s more"),
        OperationStep(deployment_id="shop-1", step="proven", finished_at=NOW + SECOND, service="db"),
        OperationStep(deployment_id="shop-1", step="serving", finished_at=NOW, service="cache", detail="for 9 s more"),
    )
    stores.progress.record_changes((), steps)
    release = Release(
        release_id="r-0",
        environment="shop",
        deployment_id="shop-0",
        created_at=NOW,
        compose={"services": {"web": {"depends_on": ["db"]}, "db": {}, "cache": {}}},
    )
    stores.releases.keep(release)

    page = page_client().get(SHOP).text

    states = {"web": "starting", "db": "proven", "cache": "serves"}
    for service, state in states.items():
        assert re.search(rf'rowheader">{service}.*?<span>{state}</span>', page, re.DOTALL), service
    assert re.search(r"Verdict</dt>.*?<span>starting</span>", page, re.DOTALL)
    assert "2 of 3" in page
    assert "What is being done now" in page
    assert "validate" in page
    assert "21 checks" in page
    assert "containers" not in page
    assert re.search(r"cache: serving\s+<span class=\"muted\">for 9 s more", page)
    assert "db: proven" in page
    assert "db: serving" not in page
    assert "web: not proven yet" in page
    assert "db: not proven yet" not in page


def test_an_environment_that_was_never_operated_is_not_found() -> None:
    begin("shop")

    page = page_client().get(f"{BASE}/environments/other")

    assert page.status_code == 404
    assert "was never operated here" in page.text


def test_hostile_services_reasons_and_forecasts_are_text() -> None:
    begin("shop")
    verdict = ServiceVerdict(service=HOSTILE, health=ServiceHealth.UNHEALTHY, reason=HOSTILE)
    health = HealthReport(environment="shop", overall=Health.UNHEALTHY, checked_at=NOW, services=(verdict,))
    stores = open_stores()
    prediction = Prediction(
        prediction_id="p1",
        environment="shop",
        service=HOSTILE,
        metric="memory_usage",
        value=1,
        threshold=2,
        falling=False,
        made_at=NOW,
        expected=NOW + timedelta(hours=1),
        earliest=NOW,
        latest=NOW + timedelta(hours=2),
        words=HOSTILE,
    )
    alert = Alert(
        alert_id=HOSTILE,
        environment="shop",
        service=HOSTILE,
        metric="up",
        severity=AlertSeverity.WARNING,
        reason=HOSTILE,
        opened_at=NOW,
    )
    stores.evaluations.record(
        EvaluationRecord(
            environment="shop", evaluated_at=NOW, health=health, predictions=(prediction,), alerts=(alert,)
        )
    )
    samples = [
        Metric(
            environment="shop",
            service=HOSTILE,
            name="cpu_usage",
            value=1,
            sampled_at=NOW - timedelta(minutes=minutes),
        )
        for minutes in range(1, 9)
    ]
    stores.metrics.add(samples)

    page = page_client().get(SHOP)

    assert page.status_code == 200
    assert page.text.count("<script") == 1
    assert "<img" not in page.text
    assert not {"\u202e", "\x1b"} & set(page.text)
    assert "data-plot" in page.text


@pytest.mark.parametrize("hours", ["", "24", "-1", "999999999999", "²", "x"])
def test_any_span_is_answered(recorded: Path, hours: str) -> None:
    assert page_client().get(SHOP, params={"hours": hours}).status_code == 200


def test_an_environment_that_was_never_started_offers_its_first_start(own_stores: Path) -> None:
    (own_stores / "shop.yaml").write_text("name: shop\ncompose_files: [compose.yaml]\nproject: shop\n")
    # The agent of another host has the file.
    open_stores().heartbeats.beat("collection/elsewhere", datetime.now(UTC))

    pages = {name: page_client().get(f"{BASE}/environments/{name}") for name in ("shop", "elsewhere", "other")}

    assert [page.status_code for page in pages.values()] == [200, 200, 404]
    for name in ("shop", "elsewhere"):
        assert f"{name} is declared, and was never started." in pages[name].text
        assert f"{BASE}/do/start/{name}" in pages[name].text
