"""Schedules of a Prefect server that the agent of a host makes needless: paused while it does their work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from httpx import HTTPError
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter, EventOccurredFilter
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectException

from adapters.server.membership import read_membership
from flows.common.pages import all_of
from flows.server.automations import CARRIED, GONE_AFTER, PAUSED_SCHEDULES, RELEASED, declare, resume_paused_schedules
from models.failures import RoasError
from models.settings import current_settings

log = logging.getLogger("roas")

_CARRIED_FLOWS = ["collection", "health-check"]
"""What else is scheduled, such as reports, the agent does not do."""

_RESUMED = "prefect.automation.action.executed"
_AT_ONCE = 50
"""The server gives no more events at once."""

_LOOK = timedelta(seconds=15)
_SIGNS = 4
"""So many signs of life an agent gives before the server takes it for gone."""


async def keep_schedules_paused(carried: Callable[[], Iterable[str]], gone_after: timedelta = GONE_AFTER) -> None:
    """Pause what is scheduled for the environments that an agent carries, until this is cancelled.

    This is reported to the server again and again. While it is away, its schedules start nothing.
    """
    asked, due_at, logged = frozenset[str](), 0.0, ""
    while True:
        names = frozenset(carried())
        if names and (names - asked or time.monotonic() >= due_at):
            try:
                # An enrolled host's deployments have no schedules of what its agent does.
                if read_membership(current_settings()) is None:
                    await pause_schedules(names, gone_after)
                asked, due_at = names, time.monotonic() + gone_after.total_seconds() / _SIGNS
            except (RoasError, HTTPError, PrefectException) as error:
                if (text := str(error) or type(error).__name__) != logged:
                    logged = text
                    log.warning("schedules on the Prefect server go on beside this agent: %s", text)
        await asyncio.sleep(min(_LOOK, gone_after / _SIGNS).total_seconds())


async def pause_schedules(names: Iterable[str], gone_after: timedelta, look_again: timedelta = _LOOK) -> None:
    """Pause once what is scheduled for these environments.

    A person who pauses or resumes one of these deployments decides: it stays so. What happened is read from the
    server's events, so that the next agent and an agent of another host know it too.
    """
    async with get_client() as client:
        deployments = await all_of(
            client.read_deployments,
            flow_filter=FlowFilter(name=FlowFilterName(any_=_CARRIED_FLOWS)),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(names))),
        )
        scheduled = [one for one in deployments if any(schedule.active for schedule in one.schedules)]
        if not all(deployment.paused for deployment in scheduled):
            await declare(client, resume_paused_schedules(gone_after))
        await asyncio.gather(*(_settle(client, deployment, look_again) for deployment in scheduled))


async def _settle(client: PrefectClient, deployment: DeploymentResponse, look_again: timedelta) -> None:
    last, paused = await _last_event(client, deployment.id), deployment.paused
    if last == CARRIED and not paused:
        # The server may have resumed it just now, and its event is still on the way.
        await asyncio.sleep(look_again.total_seconds())
        paused = (await client.read_deployment(deployment.id)).paused
        last = await _last_event(client, deployment.id)
    if last == CARRIED and not paused:
        log.info("a schedule of %s was resumed beside this agent: it stays so", deployment.name)
        last = RELEASED
    if paused or last == RELEASED:
        # What was paused without us a person paused.
        if last in (CARRIED, RELEASED):
            await _emit(client, last, deployment)
        return
    # In this order: what is paused must come back, whenever this process or the server is killed.
    await _emit(client, CARRIED, deployment)
    while await _last_event(client, deployment.id) != CARRIED:  # noqa: ASYNC110 - the server sends no event
        await asyncio.sleep(1)
    await client.pause_deployment(deployment.id)
    log.info("a schedule of %s is paused on the Prefect server: this agent does its work", deployment.name)


async def _last_event(client: PrefectClient, deployment: UUID) -> str | None:
    """The newest event of a deployment that tells who paused or resumed it: CARRIED, RELEASED or _RESUMED."""
    page = await client.read_events(
        EventFilter(
            # The server's clock may be ahead of this host's.
            occurred=EventOccurredFilter(until=datetime.now(UTC) + timedelta(days=1)),
            event=EventNameFilter(name=[CARRIED, RELEASED, _RESUMED]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.deployment.{deployment}"]),
        ),
        limit=_AT_ONCE,
    )
    # A person's own automation may have run it.
    ours = (event.event for event in page.events if event.event != _RESUMED or event.resource.name == PAUSED_SCHEDULES)
    return next(ours, None)


async def _emit(client: PrefectClient, event: str, deployment: DeploymentResponse) -> None:
    """Send an event, and wait until the server has it: `emit_event` would not say that it does not arrive."""
    resource = {"prefect.resource.id": f"prefect.deployment.{deployment.id}", "roas.environment": deployment.name}
    sent = Event(occurred=datetime.now(UTC), event=event, resource=Resource(resource))
    await client.request("POST", "/events", json=[sent.model_dump(mode="json")])
