"""Drift: where the running application differs from its declaration. It is reported, never acted on."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from prefect import flow

from core.deployment.plan import drift as drift_of
from core.deployment.plan import updates
from flows.common.parameters import COMPOSE_FILES, ENVIRONMENT, ComposeFiles, EnvironmentName
from models.compose import ALL_IMAGES
from models.results import DriftReport
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import plan_start, read_application, show_drift, store_drift
from tasks.runtime.project import load_project

log = logging.getLogger("roas")


@flow(name="drift", flow_run_name="drift of {environment}")
async def drift(environment: EnvironmentName = ENVIRONMENT, compose_files: ComposeFiles = COMPOSE_FILES) -> DriftReport:
    """Compare the running application with its declaration, by the same comparison a start plans with.

    An environment that was stopped on request has not drifted. Registries and build contexts are asked whether an
    update would bring other images, which is no drift; nothing is pulled or built.

    Raises:
        RoasError: The declaration or the running application could not be read.
    """
    project = await load_project(environment, tuple(compose_files or ()))
    application = await read_application(project)
    planned, updated, meant_to_run = await asyncio.gather(
        plan_start(project, application),
        plan_start(project, application, options=ALL_IMAGES),
        is_meant_to_run(environment),
    )
    plan = planned.plan
    report = DriftReport(
        environment=environment,
        seen_at=datetime.now(UTC),
        services=drift_of(plan) if meant_to_run else (),
        orphans=plan.orphans,
        stopped=not meant_to_run,
        updates=updates(updated.plan),
    )
    for line in report.services:
        log.warning(
            "%s has drifted: a start would %s %s, because %s", environment, line.action, line.service, line.because
        )
    for orphan in report.orphans:
        log.warning("%s has a container that is not declared: %s", environment, orphan)
    for fetch in report.updates:
        log.info("an update of %s would replace %s, because %s", environment, fetch.service, fetch.changes)
    if report.clean:
        log.info("%s runs as declared", environment)
    await store_drift(report, tuple(application.services))
    await show_drift(report)
    return report
