"""Let updates begin only in the update windows of their environment, and a schedule try none twice that fails."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from core.deployment.update import last_failure_with, last_refusal, may_be_unchanged, not_tried_again
from core.deployment.update_policy import outside_of_windows
from core.deployment.validate import validate
from flows.common.requester import AUTOMATION, SCHEDULE, requester
from flows.operation.recorder import OperationRequest
from models.compose import FetchOptions
from models.failures import BadInputError, RoasError
from models.operations import Operation
from tasks.deployment.belonging import refuse_elsewhere
from tasks.deployment.operations import ended_operations, is_meant_to_run
from tasks.deployment.services import PlannedStart, gather_facts, plan_start
from tasks.runtime.clients import load_environment
from tasks.runtime.project import load_project

log = logging.getLogger("roas")


async def skipped_update(environment: str, request: OperationRequest) -> State[Any] | None:
    """Return how an update ends that a schedule or an automation begins where it may not; else None.

    That is outside of the update windows, and where a person stopped the environment. One that is taken up again has
    begun, so it goes on at any time.

    Raises:
        BadInputError: It is outside of them, and a person asked for it; nothing is recorded.
        EnvironmentFileError: There is no such environment, or its file is not valid.
    """
    if _goes_on(request):
        return None
    declared = await load_environment(environment, tuple(request.compose_files or ()))
    outside = outside_of_windows(environment, declared.update, datetime.now(UTC))
    if begun_by_itself(request) and not await is_meant_to_run(environment):
        return _skip(f"{environment} was stopped on request. Nothing was updated.")
    if outside is None:
        return None
    if not begun_by_itself(request):
        raise BadInputError(outside, advice="wait for it, or update now with --now.")
    return _skip(f"{outside.rstrip(';')}. Nothing was updated.")


async def unchanged_update(environment: str, request: OperationRequest, options: FetchOptions) -> State[Any] | None:
    """Return how an update ends that a schedule or an automation begins with what failed last time; else None.

    Nothing is touched and nothing recorded then: the failure is on record, with its error and ticket.
    """
    if _goes_on(request) or not begun_by_itself(request):
        return None
    await refuse_elsewhere(environment)
    try:
        failed = await _last_failure(environment, request, options)
    except RoasError as error:
        # The update itself reports what is wrong.
        log.info("whether %s changed since its last update is not known: %s", environment, error.what)
        return None
    return None if failed is None else _skip(not_tried_again(failed))


def begun_by_itself(request: OperationRequest) -> bool:
    """Whether a schedule or an automation began it."""
    return requester(request.asked_by)[0] in (SCHEDULE, AUTOMATION)


async def _last_failure(environment: str, request: OperationRequest, options: FetchOptions) -> Operation | None:
    operations = await ended_operations(environment)
    if not may_be_unchanged(operations):
        return None
    project = await load_project(environment, tuple(request.compose_files or ()))
    facts = await gather_facts(project)
    redactor = await asyncio.to_thread(project.redactor)
    validation = validate(facts, datetime.now(UTC), redactor.text)
    if not validation.passed:
        return last_refusal(operations, "; ".join(check.finding for check in validation.critical))
    planned: PlannedStart = await plan_start(project, facts.application, str(facts.compose_version), options)
    return last_failure_with(operations, planned.inputs)


def _goes_on(request: OperationRequest) -> bool:
    """Whether it is an operation that has begun and is taken up again."""
    return request.deployment_id is not None or (flow_run.get_run_count() or 0) > 1


def _skip(message: str) -> State[Any]:
    log.info("%s", message)
    return Completed(name="Skipped", message=message)
