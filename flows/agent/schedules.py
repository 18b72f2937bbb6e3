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

_PAUSED = "paused"
"""In an event's payload: whether the deployment was paused when it was sent."""

_SHOWN_WITHIN = 60
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
            except (RoasError, HTTPError, PrefectException, TimeoutError) as error:
                if (text := str(error) or type(error).__name__) != logged:
                    logged = text
                    log.warning("schedules on the Prefect server go on beside this agent: %s", text)
        await asyncio.sleep(min(_LOOK, gone_after / _SIGNS).total_seconds())


async def pause_schedules(names: Iterable[str], gone_after: timedelta, look_again: timedelta = _LOOK) -> None:
    """Pause once what is scheduled for these environments.

    A person who pauses or resumes one of these deployments decides: it stays so. What happened is read from the
    server's events, so that the next agent and an agent of another host know it too.

    Raises:
        TimeoutError: The server did not show in time what it was sent.
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
        signs = await asyncio.gather(*(_next_sign(client, deployment, look_again) for deployment in scheduled))
        await _send(client, [sign for sign in signs if sign is not None])
        pausing = [sign for sign in signs if sign is not None and not sign.payload[_PAUSED]]
        # In this order: what is paused must come back, whenever this process or the server is killed.
        await asyncio.gather(*(_pause_once_shown(client, sign) for sign in pausing))
        await _send(client, [_sign(sign.event, sign.resource, sign, paused=True) for sign in pausing])


async def _next_sign(client: PrefectClient, deployment: DeploymentResponse, look_again: timedelta) -> Event | None:
    """What to tell the server of a deployment; None where a person paused it without us."""
    last, paused = await _last_event(client, deployment.id), deployment.paused
    if _is_paused_by_an_agent(last) and not paused:
        # The server may have resumed it just now, and its event is still on the way.
        await asyncio.sleep(look_again.total_seconds())
        paused = (await client.read_deployment(deployment.id)).paused
        last = await _last_event(client, deployment.id)
    event = CARRIED
    if last is not None and last.event == RELEASED:
        event = RELEASED
    elif _is_paused_by_an_agent(last) and not paused:
        log.info("a schedule of %s was resumed beside this agent: it stays so", deployment.name)
        event = RELEASED
    elif paused and (last is None or last.event == _RESUMED):
        return None
    resource = Resource(
        {"prefect.resource.id": f"prefect.deployment.{deployment.id}", "roas.environment": deployment.name}
    )
    return _sign(event, resource, last, paused=paused or event == RELEASED)


def _is_paused_by_an_agent(last: Event | None) -> bool:
    """Whether an agent told that it paused; of one that was killed before it could, only what it was about to do."""
    return last is not None and last.event == CARRIED and bool(last.payload.get(_PAUSED, True))


async def _pause_once_shown(client: PrefectClient, sign: Event) -> None:
    deployment, deadline = UUID(sign.resource.id.removeprefix("prefect.deployment.")), time.monotonic() + _SHOWN_WITHIN
    while (last := await _last_event(client, deployment)) is None or last.occurred < sign.occurred:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"the server did not show within {_SHOWN_WITHIN} s what it was sent")
        await asyncio.sleep(1)
    await client.pause_deployment(deployment)
    environment = sign.resource["roas.environment"]
    log.info("a schedule of %s is paused on the Prefect server: this agent does its work", environment)


async def _last_event(client: PrefectClient, deployment: UUID) -> Event | None:
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
    ours = (event for event in page.events if event.event != _RESUMED or event.resource.name == PAUSED_SCHEDULES)
    return next(ours, None)


def _sign(event: str, resource: Resource, last: Event | None, *, paused: bool) -> Event:
    """An event of a deployment that is newer than the last, whatever this host's clock shows."""
    newer = [] if last is None else [last.occurred + timedelta(milliseconds=1)]
    return Event(occurred=max([datetime.now(UTC), *newer]), event=event, resource=resource, payload={_PAUSED: paused})


async def _send(client: PrefectClient, signs: list[Event]) -> None:
    """Send events, and wait until the server has them: `emit_event` would not say that they do not arrive."""
    if signs:
        await client.request("POST", "/events", json=[sign.model_dump(mode="json") for sign in signs])
