"""Start-up: validate before anything is touched, start in order, prove health, record everything."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from core.compose import start_waves
from core.judging import worst_service
from core.validation import validate
from flows.judging import judge_now
from flows.recording import Story, recorded
from flows.starting import start_in_order
from models.failures import StartFailedError, ValidationFailedError
from models.health import Health
from models.operations import OperationType
from models.results import OperationResult
from models.validation import ValidationResult
from tasks.records import record_health, record_validation
from tasks.recovery import settle_failed_starts
from tasks.services import create_containers
from tasks.validation import look_before

log = logging.getLogger("roas")


@flow(name="startup", flow_run_name="start {environment}")
async def startup(
    environment: str,
    asked_by: str | None = None,
    deployment_id: str | None = None,
    compose_files: list[str] | None = None,
) -> OperationResult | State[Any]:
    """Start an environment's application and prove that it serves.

    `compose_files` start an application that has no environment file; `environment` is then its project.

    Returns the recorded result; where validation found something critical the run ends Failed with the
    result, its findings in `errors`, as its data, and nothing was touched.

    Raises:
        StartFailedError: A service did not come up in time, or a required one is not healthy.
        RoasError: Whatever else failed; recorded and handed to error recovery before it is raised.
    """
    files = tuple(compose_files or ())
    validation: ValidationResult | None = None
    story: Story | None = None
    try:
        async with recorded(
            OperationType.START,
            environment,
            asked_by=asked_by,
            deployment_id=deployment_id,
            compose_files=files,
        ) as story:
            declared, facts = await look_before(environment, files)
            validation = validate(facts, now=datetime.now(UTC))
            await record_validation(story.deployment_id, validation)
            if not validation.passed:
                raise ValidationFailedError(
                    "; ".join(check.finding for check in validation.critical),
                    advice=" ".join(dict.fromkeys(check.fix for check in validation.critical if check.fix)),
                )
            application = facts.application
            log.info(
                "%s: %d checks passed, %d to look at; starting %s",
                environment,
                len(validation.checks) - len(validation.failed),
                len(validation.failed),
                " then ".join(", ".join(wave) for wave in start_waves(application)),
            )
            await create_containers(declared)
            starts = await start_in_order(story, declared, application)
            health = await judge_now(declared, application, deployment_id=story.deployment_id)
            await record_health(health)
            if health.overall is Health.UNHEALTHY:
                first = worst_service(health)
                raise StartFailedError(f"{first.service} is {first.health}: {first.reason}", service=first.service)
            story.facts["health"] = str(health.overall)
            why = f"start {story.deployment_id} was proven"
            for error_id in await settle_failed_starts(environment, datetime.now(UTC), why):
                log.info("error %s is resolved: %s", error_id, why)
    except ValidationFailedError as error:
        assert story is not None  # noqa: S101 - raised inside the story only
        return Failed(
            message=f"validation of {environment} failed: {error.what}",
            data=OperationResult(
                success=False,
                deployment_id=story.deployment_id,
                environment=environment,
                reason=error.what,
                took_seconds=story.took_seconds(),
                validation=validation,
                errors=tuple(check.finding for check in validation.critical) if validation else (error.what,),
                recovery=story.recovery,
            ),
        )
    return OperationResult(
        success=True,
        deployment_id=story.deployment_id,
        environment=environment,
        reason=f"{len(starts)} services proven" if health.overall is Health.HEALTHY else f"health {health.overall}",
        took_seconds=story.took_seconds(),
        services=starts,
        health=health,
        validation=validation,
    )
