"""Identify who requested a run: the user that the kernel or the server proves, beside the name that was claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from adapters.host.processes import as_claim, this_user
from models.audit import Actor
from tasks.reporting.consent import refuse_without_consent

API = "Prefect UI or API"
"""Every holder of the server's password: Prefect gives all the same one, so it identifies no person."""

ON_THE_PAGE = " on the page"
"""Ends the name of one who was signed in to our page, whose runs are made with that same password."""

SCHEDULE = "schedule"

AUTOMATION = "automation"

PUSH = "push"
"""A git server that says that a repository changed."""

_BY_SCHEDULE = "SCHEDULE"


def requester(asked_by: str | None) -> tuple[str, Actor]:
    """Who asked for the flow run of this moment, in words and in parts; `asked_by` is its parameter of that name.

    A run of a deployment was asked for through the server. A run without one was begun by a program on this
    machine: a person's, whom the kernel knows, or one of our own flows that calls another.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return _from_this_machine(run, asked_by)
    return _actor_of_server(run, asked_by or "")


async def require_consent(
    environment: str, verb: str, confirm: str, asked_by: str | None, services: Collection[str] = ()
) -> None:
    """Refuse what a person, and no clock or push, asks for without the environment's name where it has to be given.

    Raises:
        BadInputError: It was not given; nothing was touched.
    """
    if asked_by != PUSH and requester(asked_by)[0] not in (SCHEDULE, AUTOMATION):
        await asyncio.to_thread(refuse_without_consent, environment, verb, confirm, services)


def asker_through_server(name: str) -> tuple[str, Actor]:
    """Who answered a run that waits in Prefect, where any holder of the password may answer under any name."""
    claimed = as_claim(name)
    return f"{API}, as {claimed}" if claimed else API, Actor(claimed=claimed)


def _from_this_machine(run: FlowRun | None, asked_by: str | None) -> tuple[str, Actor]:
    if run is not None and run.parent_task_run_id is not None and asked_by:
        # Our own flow gives it, in this process; what the server accepts as a child has a deployment.
        return asked_by, this_user({})
    actor = this_user()
    through = f" ({as_claim(asked_by)})" if asked_by else ""
    return f"person: {actor.user}{through}", actor


def _actor_of_server(run: FlowRun, asked_by: str) -> tuple[str, Actor]:
    creator = run.created_by
    if run.auto_scheduled or (creator is not None and creator.type == _BY_SCHEDULE):
        return SCHEDULE, Actor(claimed=as_claim(asked_by))
    if creator is not None and creator.type:
        # It stands in a header of the request, which any holder of the password may send.
        name = as_claim(creator.display_value or "")
        return f"{creator.type.lower()}", Actor(claimed=as_claim(f"{name} {asked_by}".strip()))
    if asked_by.endswith(ON_THE_PAGE):
        return asker_through_server(asked_by)
    return API, Actor(claimed=as_claim(asked_by))
