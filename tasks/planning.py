"""What a start would do: looked up, never done."""

from __future__ import annotations

import asyncio

from prefect import task

from adapters.fingerprints import Fingerprints
from core.compose import plan
from core.releases import changed_files
from models.compose import Application, Plan
from models.environments import Environment
from models.settings import Settings
from tasks.doors import compose_of, engine_of
from tasks.patience import LOOK
from tasks.stores import open_stores


def read_plan(environment: Environment) -> Plan:
    """Per service keep, start, restart, recreate or create, and because of which change.

    Only questions are asked: of Compose for what is declared, of the engine for what is there.

    Raises:
        ComposeError: The Compose files cannot be read.
        EngineUnreachableError: The engine did not answer.
    """
    return _plan(environment, compose_of(environment).render())


@task(name="plan the start", task_run_name="plan the start of {environment.name}", **LOOK)
async def plan_start(environment: Environment, application: Application) -> Plan:
    """The plan of an application that was read already.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    return await asyncio.to_thread(_plan, environment, application)


def _plan(environment: Environment, application: Application) -> Plan:
    engine = engine_of(environment)
    references = {declaration.image for declaration in application.services.values() if declaration.image}
    found = {reference: engine.image(reference) for reference in references}
    images = {reference: fact.image_id for reference, fact in found.items() if fact is not None}
    last = open_stores().deployments.last_release(environment.name, proven=True)
    files = Fingerprints(Settings().data_dir).of_mounted_files(application)
    return plan(application, engine.sightings(environment.project), images, changed_files(last, files))
