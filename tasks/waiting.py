"""Wait until a service that was restarted is proven: the same proof as that of a start."""

from __future__ import annotations

import asyncio
import logging
import time

from prefect import task

from adapters.secrets import secret_values
from core.judging import judge_declared
from models.compose import ServiceDeclaration
from models.environments import Environment
from models.failures import ComposeError
from tasks.bringing_up import Attempt, Milestone, until_proven
from tasks.doors import compose_of
from tasks.patience import ACT
from tasks.watching import watch_project

log = logging.getLogger("roas")


@task(name="recovery step: verify", task_run_name="verify {service}", **ACT)
async def wait_until_well(environment: Environment, service: str) -> str:
    """Wait until a service serves and has held for its stabilisation time, at most as long as the policy says.

    Raises:
        StartFailedError: It was lost, or did not become well in time; the message says what was seen last.
    """
    attempt = Attempt(
        environment,
        await asyncio.to_thread(_declaration, environment, service),
        await asyncio.to_thread(secret_values, environment),
    )
    began = time.monotonic()
    async with watch_project(environment) as watch:
        seen = await until_proven(attempt, watch, _nobody_waits, None, environment.recovery.verify_timeout_seconds)
    verdict = judge_declared(attempt.declaration, seen, attempt.answer, environment.service(service))
    return f"{service} is {verdict.health} after {time.monotonic() - began:.1f} s: {verdict.reason}"


def _declaration(environment: Environment, service: str) -> ServiceDeclaration:
    """What the files say of the service; where they are what is broken, what runs is judged by itself."""
    bare = ServiceDeclaration(name=service, image="", restart="always")
    try:
        return compose_of(environment).render().services.get(service, bare)
    except ComposeError as error:
        log.warning("%s is verified without its Compose file: %s", service, error)
        return bare


def _nobody_waits(_stone: Milestone) -> None:
    """No dependant waits for a milestone of a recovery."""
