"""Health check: ask every service whether it serves, judge the whole, record both."""

from __future__ import annotations

import logging

from prefect import flow

from core.monitoring.health import state_changes
from flows.common.judge_health import judge_now
from flows.common.parameters import ASKED_BY, COMPOSE_FILES, DEPLOYMENT_ID, ENVIRONMENT, ComposeFiles, EnvironmentName
from flows.operation.recorder import OperationRequest, record_operation
from flows.recovery.escalate import escalate
from models.health import UNHEALTHY_STATES
from models.operations import OperationType
from models.results import OperationResult
from tasks.deployment.operations import last_states, record_changes, record_health
from tasks.deployment.services import read_application
from tasks.recovery.notify import UNHEALTHY, announce

log = logging.getLogger("roas")


@flow(name="health-check", flow_run_name="health of {environment}")
async def health_check(
    environment: EnvironmentName = ENVIRONMENT,
    asked_by: str | None = ASKED_BY,
    deployment_id: str | None = DEPLOYMENT_ID,
    compose_files: ComposeFiles = COMPOSE_FILES,
) -> OperationResult:
    """Judge an environment now. The operation succeeds when it could be judged, however unhealthy it is.
    Paused while an agent carries the environment, which does this all the time.

    Raises:
        RoasError: It could not be judged; recorded and handed on first.
    """
    request = OperationRequest(asked_by, deployment_id, compose_files)
    async with record_operation(OperationType.HEALTH_CHECK, environment, request, on_failure=escalate) as recorder:
        project = await recorder.open()
        application = await read_application(project)
        health = await judge_now(project, application, deployment_id=recorder.deployment_id)
        await record_health(health)
        changed = state_changes(health, await last_states(environment), recorder.deployment_id)
        await record_changes(changed)
        recorder.record.changed = tuple(change.service for change in changed)
        recorder.record.health = str(health.overall)
        for verdict in health.services:
            log.info("%s is %s: %s", verdict.service, verdict.health, verdict.reason)
            if verdict.health in UNHEALTHY_STATES:
                # A check does not act. The event starts a recovery, which leaves alone what a watch recovers.
                announce(
                    UNHEALTHY,
                    environment,
                    service=verdict.service,
                    deployment_id=recorder.deployment_id,
                    handled=False,
                    text=f"service {verdict.service} is {verdict.health}: {verdict.reason}",
                )
    return recorder.result(
        f"{environment} is {health.summary}",
        health=health,
    )
