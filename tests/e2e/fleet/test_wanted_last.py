"""What was wanted last decides what the agent heals; what fails during an operation is healed once it has ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.host.processes import this_process
from adapters.stores import Stores
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import read_record
from tasks.deployment.lease import LEASE
from tests.e2e.fleet.conftest import LocalHost

pytestmark = pytest.mark.engine


def record(stores: Stores, name: str, kind: OperationType, status: OperationStatus, **details: str) -> None:
    now = datetime.now(UTC)
    deployment_id = f"{name}-{kind}"
    begun = Operation(
        deployment_id=deployment_id,
        operation_type=kind,
        environment=name,
        status=OperationStatus.RUNNING,
        started_at=now,
    )
    stores.operations.begin(begun)
    stores.operations.finish(deployment_id, status, now, read_record(details))


@pytest.mark.campaign(seconds=12)
def test_a_service_is_healed_after_a_stop_that_an_interrupted_start_followed(host: LocalHost) -> None:
    stopped, wanted = host.declare(), host.declare()
    with host.stores() as stores:
        for name in (stopped, wanted):
            host.up(name)
            record(stores, name, OperationType.STOP, OperationStatus.SUCCESS)
        record(stores, wanted, OperationType.START, OperationStatus.FAILED, error="Interrupted", interrupted="gone")
        for name in (stopped, wanted):
            host.kill(name)
        host.begin()
        host.watched(wanted)
        host.until(lambda: f"{stopped} is not meant to run" in host.text())
        host.until(lambda: f"{wanted}: recovery of web: web healthy again" in host.text())
        host.until(lambda: [one.success for one in stores.recoveries.find(environment=wanted)] == [True])
        assert host.runs(wanted)
        assert not host.runs(stopped)
        assert stores.errors.latest(stopped) == []


@pytest.mark.campaign
def test_a_failure_while_an_operation_holds_the_environment_is_one_error_that_is_healed_after_it(
    host: LocalHost,
) -> None:
    name = host.declare()
    host.up(name)
    host.begin()
    host.watched(name)
    with host.stores() as stores:
        runner = this_process()
        held = stores.leases.acquire(name, "by-the-test", "start by a test", datetime.now(UTC), LEASE, runner=runner)
        assert held.acquired
        host.kill(name)
        host.until(lambda: "web is not recovered: " in host.text())
        assert stores.tickets.find(environment=name) == []
        stores.leases.release(name, "by-the-test", runner=runner)
        host.until(lambda: "web healthy again" in host.text())
        host.until(lambda: not stores.errors.list_unresolved(name))
        (error,) = stores.errors.latest(name)
        assert [one.error_id for one in stores.recoveries.find(environment=name)] == [error.error_id]
        assert stores.tickets.find(environment=name) == []
