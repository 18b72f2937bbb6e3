"""Record a sync whose source cannot be fetched or not be taken: an operation that failed before it touched anything."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from core.deployment.source import is_recorded
from flows.common.requester import requester
from flows.operation.recorder import OperationRequest, record_operation
from flows.recovery.escalate import escalate
from models.environments import Environment
from models.failures import EnvironmentBusyError, RoasError, SourceError
from models.operations import OperationType
from models.operations.record import NOTHING_TOUCHED
from tasks.deployment.source import change_state, source_state

log = logging.getLogger("roas")


async def record_source_failure(environment: Environment, request: OperationRequest, error: SourceError) -> None:
    """Record the failure as an operation, with event, notification and error.

    A schedule and a push ask again and again, so for them the same failure is recorded once, until the source can be
    fetched again.
    """
    asker, _ = requester(request.asked_by)
    try:
        last_failure = (await source_state(environment)).unfetched
        await change_state(environment, lambda state: replace(state, unfetched=error.what))
    except RoasError as trouble:
        last_failure = ""
        log.warning("that the source of %s was not fetched is not remembered: %s", environment.name, trouble)
    if not is_recorded(error.what, last_failure, by_person=asker.startswith("person")):
        log.info("the same failure of the source of %s is recorded already", environment.name)
        return
    # The caller raises the failure, also where another operation holds the environment.
    with suppress(EnvironmentBusyError, SourceError):
        async with record_operation(OperationType.START, environment.name, request, on_failure=escalate) as recorder:
            await recorder.open()
            recorder.record.update, recorder.record.undone = "all", NOTHING_TOUCHED
            raise error


async def forget_source_failure(environment: Environment) -> None:
    """Let the next failure of the source be recorded again, since it was fetched and may be taken."""
    if (await source_state(environment)).unfetched:
        await change_state(environment, lambda state: replace(state, unfetched=""))
