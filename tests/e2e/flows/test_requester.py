"""Who asked for an operation: what the caller of the API chose as a name is never recorded as proven."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow

from adapters.host.processes import this_user
from adapters.stores.audit_check import verify
from flows.common.requester import _actor_of_server
from flows.operation.recorder import OperationRequest, record_operation
from models.audit import Actor
from models.operations import Operation, OperationType
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place

pytestmark = pytest.mark.flow


@flow(name="one-operation-asked-for")
async def operation(asked_by: str | None = None) -> None:
    async with record_operation(OperationType.START, "test", OperationRequest(asked_by)):
        pass


@flow(name="one-that-calls-another")
async def caller() -> None:
    await operation(asked_by="error recovery of e1")


async def deployed() -> UUID:
    return await (await operation.ato_deployment(name="test", schedule=None)).aapply()


async def run_deployed(run_id: UUID) -> Operation:
    """Run it as a runner does; the operation it recorded."""
    async with get_client() as client:
        running = run_flow(operation, flow_run=await client.read_flow_run(run_id), return_type="state")
    assert isinstance(running, Awaitable)
    await running
    return only()


def only() -> Operation:
    [found] = open_stores().operations.history(environment="test")
    assert [report.findings for report in verify(open_stores())] == [(), ()]
    return found


async def test_a_name_given_as_a_parameter_through_the_api_stands_as_claimed_alone(place: Place) -> None:
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(await deployed(), parameters={"asked_by": "person: root"})
    found = await run_deployed(run.id)
    assert (found.user_agent, found.actor) == ("Prefect UI or API", Actor(claimed="person: root"))


async def test_one_who_is_signed_in_to_the_page_is_named_and_stands_as_claimed(place: Place) -> None:
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(await deployed(), parameters={"asked_by": "ann on the page"})
    found = await run_deployed(run.id)
    assert (found.user_agent, found.actor) == (
        "Prefect UI or API, as ann on the page",
        Actor(claimed="ann on the page"),
    )


async def test_an_automation_named_only_by_a_header_proves_no_user(place: Place) -> None:
    async with get_client() as client:
        headers = {"prefect-automation-id": str(uuid4()), "prefect-automation-name": b64encode(b"nightly").decode()}
        made = await client._client.post(
            f"/deployments/{await deployed()}/create_flow_run", json={"parameters": {}}, headers=headers
        )
    found = await run_deployed(UUID(made.json()["id"]))
    assert (found.user_agent, found.actor) == ("automation", Actor(claimed="nightly"))


def test_a_run_that_the_server_scheduled_is_a_schedules() -> None:
    scheduled = FlowRun(flow_id=uuid4(), deployment_id=uuid4(), auto_scheduled=True)
    assert _actor_of_server(scheduled, "person: root") == ("schedule", Actor(claimed="person: root"))


async def test_a_name_given_on_this_machine_stands_beside_the_kernels_user(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "nobody-real")
    await operation(asked_by="the night shift")
    found, actor = only(), this_user()
    assert found.user_agent == f"person: {actor.user} (the night shift)"
    assert (found.actor.uid, found.actor.claimed) == (actor.uid, "nobody-real")


async def test_a_flow_of_ours_that_calls_another_asks_by_itself(place: Place) -> None:
    await caller()
    found = only()
    assert (found.user_agent, found.actor) == ("error recovery of e1", this_user({}))
