"""Runs that ask about a ticket, on a real Prefect server."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from prefect import get_client

from flows.recovery.error_recovery import error_recovery
from tasks.recovery.approve import AnswerResult, ask_on_the_server, cancel_run, resume_with
from tests.integration.stores.values import TICKET

pytestmark = pytest.mark.flow

ASKED = replace(TICKET, environment="asked")


async def test_a_ticket_is_asked_about_by_one_run_which_ends_once_the_ticket_is_closed(prefect_server: None) -> None:
    assert await ask_on_the_server(ASKED, "boom") is None, "nothing is deployed there"
    deployment = await error_recovery.ato_deployment(name="asked")
    await deployment.aapply()

    run = await ask_on_the_server(ASKED, "boom")

    assert run is not None
    assert await ask_on_the_server(ASKED, "boom") == run, "another process opened the same ticket"
    asking = replace(ASKED, flow_run_id=run)
    assert await ask_on_the_server(asking, "boom") == run, "it is asked about already"
    assert await resume_with(run, {}) is AnswerResult.NO_RUN_WAITS, "it has not begun yet"
    async with get_client() as client:
        begun = await client.read_flow_run(UUID(run))
        assert begun.parameters == {"environment": "asked", "text": "boom", "ticket": "t1", "service": "web"}
        await cancel_run(run, "t1 is resolved")
        ended = await client.read_flow_run(UUID(run))
        assert ended.state is not None
        assert (ended.state.name, ended.state.message) == ("Completed", "t1 is resolved")
        await cancel_run(run, "again")
        assert (await client.read_flow_run(UUID(run))).state == ended.state

    another = await ask_on_the_server(asking, "boom")
    assert another not in (None, run), "a closed question is asked again in a new run"
    await cancel_run(str(another), "the test is over")
