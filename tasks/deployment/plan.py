"""Plan a start: read the facts, change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prefect import task
from prefect.artifacts import acreate_table_artifact

from adapters.host.fingerprints import Fingerprints
from core.deployment.plan import plan
from core.deployment.release import changed_files
from models.compose import Application, Plan
from models.environments import Environment
from models.metrics import Metric
from models.results import DriftReport
from models.settings import current_settings
from tasks.runtime.clients import compose_of, engine_of
from tasks.runtime.naming import artifact_key
from tasks.runtime.retry_policy import READ, WRITE
from tasks.runtime.stores import open_stores, stores_exist


def read_plan(environment: Environment) -> Plan:
    """Plan per service: keep, start, restart, recreate or create, and because of which change.

    Compose is asked for the declarations, the engine for the containers.

    Raises:
        ComposeError: The Compose files cannot be read.
        EngineUnreachableError: The engine did not answer.
    """
    compose = compose_of(environment)
    return _plan(environment, compose.render(), compose.version())


@task(name="plan the start", task_run_name="plan the start of {environment.name}", **READ)
async def plan_start(environment: Environment, application: Application, compose_version: str | None = None) -> Plan:
    """Plan the start of an application that was rendered already; `compose_version` is asked for unless given.

    Raises:
        ComposeError: Compose is not installed.
        EngineUnreachableError: The engine did not answer.
    """
    return await asyncio.to_thread(
        lambda: _plan(environment, application, compose_version or compose_of(environment).version())
    )


@task(name="store the drift", **WRITE)
async def store_drift(report: DriftReport, services: Sequence[str]) -> None:
    """Write of each service whether it had drifted, 0 or 1, as a metric named drift."""
    drifted = {line.service for line in report.services}
    metrics = [
        Metric(
            environment=report.environment,
            service=name,
            name="drift",
            value=float(name in drifted),
            sampled_at=report.seen_at,
        )
        for name in services
    ]
    await asyncio.to_thread(open_stores().metrics.add, metrics)


@task(name="show the drift", **READ)
async def show_drift(report: DriftReport) -> None:
    """Put the drift on the run's page."""
    rows = [
        {"service": one.service, "a start would": str(one.action), "because": one.because} for one in report.services
    ]
    rows += [
        {"service": name, "a start would": "leave it alone", "because": "it is not declared"} for name in report.orphans
    ]
    await acreate_table_artifact(
        table=rows or [{"service": "all", "a start would": "keep", "because": "they run as declared"}],
        key=artifact_key("drift", report.environment),
        description=f"Drift of {report.environment} at {report.seen_at:%Y-%m-%d %H:%M} UTC",
    )


def _plan(environment: Environment, application: Application, compose_version: str) -> Plan:
    engine = engine_of(environment)
    references = {declaration.image for declaration in application.services.values() if declaration.image}
    found = {reference: engine.images.inspect(reference) for reference in references}
    images = {reference: fact.image_id for reference, fact in found.items() if fact is not None}
    last = open_stores().releases.last(environment.name, proven=True) if stores_exist() else None
    files = {} if last is None else Fingerprints(current_settings().data_dir).of_mounted_files(application)
    return plan(
        application,
        engine.containers.inspect_project(environment.project),
        images,
        changed_files(last, files),
        compose_version=compose_version,
    )
