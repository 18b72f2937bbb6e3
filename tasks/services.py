"""Services: look at their containers, create them, start them, stop them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from prefect import task

from models.compose import Application, InjectedFile
from models.environments import Environment
from models.sightings import Sighting
from tasks.doors import compose_of, engine_of
from tasks.patience import ACT, LOOK


@task(name="read the application", **LOOK)
async def read_application(environment: Environment) -> Application:
    """What the environment's Compose files declare.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """
    return await asyncio.to_thread(compose_of(environment).render)


@task(name="look at the containers", **LOOK)
async def look_at_application(environment: Environment) -> list[Sighting]:
    """Every container of the environment's project, stopped ones too."""
    return await asyncio.to_thread(engine_of(environment).sightings, environment.project)


@task(name="create containers", timeout_seconds=900, **ACT)
async def create_containers(environment: Environment) -> None:
    """Let Compose create what is declared and not there, and replace what has changed; nothing is started.

    Raises:
        ComposeError: Compose, or the engine below it, refused; in their own words.
    """
    await asyncio.to_thread(compose_of(environment).create)


@task(name="stop containers", task_run_name="stop {service}", **ACT)
async def stop_containers(
    environment: Environment, service: str, container_ids: Sequence[str], grace: timedelta
) -> None:
    """Ask a service's containers to stop; after the grace the engine kills them."""
    engine = engine_of(environment)
    await asyncio.gather(*(asyncio.to_thread(engine.stop, one, grace) for one in container_ids))


@task(name="restart containers", task_run_name="restart {service}", **ACT)
async def restart_containers(
    environment: Environment, service: str, container_ids: Sequence[str], grace: timedelta
) -> None:
    """Stop and start a service's containers, keeping what is in them."""
    engine = engine_of(environment)
    await asyncio.gather(*(asyncio.to_thread(engine.restart, one, grace) for one in container_ids))


@task(name="read injected files", **LOOK)
async def read_injected_files(environment: Environment) -> dict[str, tuple[InjectedFile, ...]]:
    """The files that Compose puts into containers just before their start, by service."""
    return await asyncio.to_thread(compose_of(environment).injections)
