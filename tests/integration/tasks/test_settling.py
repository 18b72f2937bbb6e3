"""Errors and tickets are closed once their cause is over, in real stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.host.processes import this_process
from core.recovery.tracker import NO_SERVICE
from models.errors import Category, Strategy
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.recovery import RecoveryExecution, TicketState
from tasks.deployment.operations import begin_operation, finish_operation
from tasks.recovery.records import settle_dependants, settle_predicted, settle_well
from tasks.runtime.stores import open_stores
from tests.integration.stores.values import ERROR, TICKET

NOW = datetime.now(UTC)
AGO = NOW - timedelta(minutes=1)
OF_WEB = replace(
    ERROR,
    source="watch",
    verdict=replace(ERROR.verdict, category=Category.DEPENDENCY_REFUSED),
    first_seen=AGO,
    last_seen=AGO,
    evidence={"dependencies_down": ["redis"]},
)


ATTEMPT = RecoveryExecution(
    error_id=ERROR.error_id,
    strategy=Strategy.RESTART_SERVICE,
    started_at=AGO,
    attempt_id="e1#1",
    environment="prod",
    service="web",
    runner=replace(this_process(), pid=2**22, process_started=1),
)

START = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.RUNNING,
    started_at=AGO,
)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


async def test_an_error_caused_by_another_service_is_resolved_once_both_are_healthy() -> None:
    stores = open_stores()
    stores.errors.record(OF_WEB)
    own = replace(ERROR.verdict, category=Category.DISK_FULL)
    stores.errors.record(replace(OF_WEB, error_id="e2", verdict=own, evidence={}))
    stores.tickets.open(TICKET)

    assert await settle_dependants.fn("prod", ["web"], NOW) == [], "redis is still down"
    assert await settle_dependants.fn("prod", ["web", "redis"], AGO - timedelta(seconds=1)) == [], "it was seen since"
    assert await settle_dependants.fn("prod", ["web", "redis"], NOW) == ["e1"]
    assert [one.error_id for one in stores.errors.list_unresolved("prod")] == ["e2"]
    assert stores.tickets.find(environment="prod")[0].state is TicketState.RESOLVED


@pytest.mark.parametrize(("success", "is_over"), [(True, True), (False, False)])
async def test_a_start_that_is_proven_ends_the_recovery_whose_runner_died_before(success: bool, is_over: bool) -> None:
    stores = open_stores()
    stores.errors.record(OF_WEB)
    stores.recoveries.record(ATTEMPT)
    stores.recoveries.record(replace(ATTEMPT, attempt_id="e1#2", runner=this_process()))
    await begin_operation(START)

    status = OperationStatus.SUCCESS if success else OperationStatus.FAILED
    await finish_operation("prod-1", status, NOW, OperationRecord(), settles="prod" if success else None)

    cut_off, alive = stores.recoveries.find(environment="prod")
    assert (cut_off.ended_at is not None) == is_over
    assert ("start prod-1 was proven since" in cut_off.final_status) == is_over
    assert alive.ended_at is None


@pytest.mark.parametrize(
    ("source", "seen", "predictive", "is_over"),
    [
        ("collection", AGO - timedelta(seconds=1), False, True),
        ("watch", AGO - timedelta(seconds=1), False, True),
        ("watch", AGO + timedelta(seconds=1), False, False),
        ("watch", AGO - timedelta(seconds=1), True, False),
        ("person", AGO - timedelta(seconds=1), False, False),
        ("validation", AGO + timedelta(seconds=1), False, True),
    ],
)
async def test_a_proven_start_resolves_what_was_observed_before_it(
    source: str, seen: datetime, predictive: bool, is_over: bool
) -> None:
    stores = open_stores()
    stores.errors.record(
        replace(OF_WEB, service=None, source=source, predictive=predictive, first_seen=seen, last_seen=seen)
    )
    stores.tickets.open(TICKET)
    await begin_operation(START)

    await finish_operation("prod-1", OperationStatus.SUCCESS, NOW, OperationRecord(), settles="prod")

    assert [one.error_id for one in stores.errors.list_unresolved("prod")] == ([] if is_over else ["e1"])
    assert (stores.tickets.find(environment="prod")[0].state is TicketState.RESOLVED) == is_over


async def test_a_predicted_error_and_its_ticket_end_with_the_alert_that_warned_of_it() -> None:
    stores = open_stores()
    stores.errors.record(replace(OF_WEB, source="prediction", predictive=True))
    own = replace(ERROR.verdict, category=Category.DISK_FULL)
    stores.errors.record(replace(OF_WEB, error_id="e2", verdict=own, evidence={}))
    stores.tickets.open(TICKET)

    assert await settle_predicted.fn("prod", {"web"}) == []
    assert await settle_predicted.fn("prod", {"db", "host"}) == ["e1"]
    assert [one.error_id for one in stores.errors.list_unresolved("prod")] == ["e2"]
    assert stores.tickets.find(environment="prod")[0].state is TicketState.RESOLVED


async def test_what_concerned_all_services_is_resolved_when_all_are_well() -> None:
    stores = open_stores()
    stores.errors.record(replace(OF_WEB, service=None, source="collection"))
    stores.tickets.open(TICKET)

    assert await settle_well.fn("prod", ["web"], NOW, "it is well") == []
    assert await settle_well.fn("prod", ["web", NO_SERVICE], NOW, "it is well") == ["e1"]
    assert stores.tickets.find(environment="prod")[0].state is TicketState.RESOLVED


@pytest.mark.parametrize(("services", "is_over"), [(("web",), True), (("db",), False), (None, True)])
async def test_a_proven_update_of_some_services_resolves_what_concerned_these(
    services: tuple[str, ...] | None, is_over: bool
) -> None:
    stores = open_stores()
    stores.errors.record(replace(OF_WEB, source="start"))
    stores.recoveries.record(ATTEMPT)
    await begin_operation(START)

    await finish_operation("prod-1", OperationStatus.SUCCESS, NOW, OperationRecord(), settles="prod", services=services)

    assert (stores.errors.list_unresolved("prod") == []) == is_over
    assert (stores.recoveries.find(environment="prod")[0].ended_at is not None) == is_over
