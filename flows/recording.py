"""Every operation is recorded: that it began, how it ended and why, and a failure is handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from flows.error_recovery import error_recovery
from flows.identifiers import new_deployment_id
from models.failures import RoasError, StartFailedError, ValidationFailedError
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import RecoveryOutcome
from tasks.lease import hold_environment
from tasks.records import begin_operation, finish_operation
from tasks.redaction import redact

log = logging.getLogger("roas")


@dataclass(slots=True, kw_only=True)
class Story:
    """One operation while it is being lived: its id, and the facts that go into its record."""

    deployment_id: str
    environment: str
    started_at: datetime
    facts: dict[str, Any] = field(default_factory=dict)
    recovery: RecoveryOutcome | None = None

    def took_seconds(self) -> float:
        """Seconds since the operation began."""
        return (datetime.now(UTC) - self.started_at).total_seconds()


@asynccontextmanager
async def recorded(
    operation_type: OperationType,
    environment: str,
    *,
    asked_by: str | None = None,
    deployment_id: str | None = None,
    compose_files: tuple[str, ...] = (),
) -> AsyncIterator[Story]:
    """Record an operation around its body; on any exception record the failure, hand it on, raise again.

    `deployment_id` is given by a caller that wants to find the record afterwards; else one is made.

    Raises:
        EnvironmentBusyError: Another operation holds the environment; recorded as a failure too.
    """
    started_at = datetime.now(UTC)
    story = Story(
        deployment_id=deployment_id or new_deployment_id(environment, started_at),
        environment=environment,
        started_at=started_at,
    )
    asker = asked_by or _who_asked()
    await begin_operation(
        Operation(
            deployment_id=story.deployment_id,
            operation_type=operation_type,
            environment=environment,
            status=OperationStatus.RUNNING,
            started_at=started_at,
            user_agent=asker,
            details={"flow_run_id": str(flow_run.get_id() or "")},
        )
    )
    try:
        async with hold_environment(environment, owner=story.deployment_id, reason=f"{operation_type} by {asker}"):
            yield story
    except asyncio.CancelledError:
        await asyncio.shield(_finish(story, OperationStatus.FAILED, {"reason": "cancelled before it ended"}))
        raise
    except Exception as error:
        await _fail(story, operation_type, error, compose_files)
        raise
    await _finish(story, OperationStatus.SUCCESS, {})


async def _fail(story: Story, operation_type: OperationType, error: Exception, compose_files: tuple[str, ...]) -> None:
    said = error.what if isinstance(error, RoasError) else str(error)
    text = await redact(story.environment, said or type(error).__name__, compose_files)
    advice = error.advice if isinstance(error, RoasError) else ""
    log.error("%s of %s failed: %s", operation_type, story.environment, text)
    await _finish(story, OperationStatus.FAILED, {"reason": text, "advice": advice, "error": type(error).__name__})
    story.recovery = await error_recovery(
        environment=story.environment,
        text=text,
        deployment_id=story.deployment_id,
        service=error.service if isinstance(error, StartFailedError) else None,
        source="validation" if isinstance(error, ValidationFailedError) else str(operation_type),
        compose_files=list(compose_files),
        act=False,
    )


async def _finish(story: Story, status: OperationStatus, facts: dict[str, Any]) -> None:
    await finish_operation(story.deployment_id, status, datetime.now(UTC), story.facts | facts)


def _who_asked() -> str:
    """A schedule, an automation or a person, as far as the engine knows."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return "unknown"
    if run.auto_scheduled:
        return "schedule"
    if run.created_by is not None:
        return f"{(run.created_by.type or 'run').lower()}: {run.created_by.display_value or run.name}"
    return "person: Prefect"
