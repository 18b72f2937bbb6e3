"""Health judged now: what the engine shows and what each service's own probe answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from core.common.dependencies import dependencies_of
from core.monitoring.health import judge_all, judge_environment
from models.compose import Application
from models.containers import ContainerState
from models.failures import ProbeOutOfReachError, RoasError
from models.health import HealthReport, ProbeResult, Unasked
from tasks.deployment.services import inspect_application
from tasks.monitoring.collect import probe_service
from tasks.runtime.project import Project

log = logging.getLogger("roas")


async def judge_now(
    project: Project,
    application: Application,
    *,
    deployment_id: str | None = None,
    container_states: Sequence[ContainerState] | None = None,
    probed_services: Collection[str] | None = None,
) -> HealthReport:
    """Inspect every container unless `container_states` are given, ask every probe, and judge the whole.

    `probed_services` are the services whose probes are asked, all unless given; the others are judged by their
    containers alone.

    Raises:
        EngineUnreachableError: The engine did not answer.
    """
    environment = project.environment
    container_states = await inspect_application(project) if container_states is None else container_states
    running = {
        container.service for container in container_states if container.state == "running" and not container.one_off
    }
    candidates = running if probed_services is None else running.intersection(probed_services)
    probed = [name for name in application.services if environment.service(name).probe and name in candidates]
    answered = await asyncio.gather(*(_answer_or_why_not(project, name, container_states) for name in probed))
    answers = dict(zip(probed, answered, strict=True))
    verdicts = judge_all(environment, application, container_states, answers)
    return judge_environment(
        environment.name,
        verdicts,
        now=datetime.now(UTC),
        dependencies=dependencies_of(environment, application),
        deployment_id=deployment_id,
        # Processes that run or wait to, averaged over the last minute.
        system_load=None if environment.is_remote else os.getloadavg()[0],
    )


async def _answer_or_why_not(
    project: Project, service: str, container_states: Sequence[ContainerState]
) -> ProbeResult | Unasked | str:
    """What a service's own probe answers, or why it could not be asked."""
    try:
        return await probe_service(project, service, container_states)
    except ProbeOutOfReachError as error:
        return Unasked(error.what)
    except (RoasError, TimeoutError) as error:
        log.warning("%s could not be probed: %s", service, error or type(error).__name__)
        return str(error) or "its probe did not end in time"
