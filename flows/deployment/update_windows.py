"""Let updates begin only in the update windows of their environment."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from core.deployment.update_policy import outside_of_windows
from flows.deployment.operation import OperationRequest
from flows.runtime.requester import AUTOMATION, SCHEDULE, requester
from models.failures import BadInputError
from tasks.runtime.clients import load_environment

log = logging.getLogger("roas")


async def skipped_update(environment: str, request: OperationRequest) -> State[Any] | None:
    """Return how an update ends that a schedule or an automation begins outside of the update windows; else None.

    One that is taken up again has begun, so it goes on at any time.

    Raises:
        BadInputError: It is outside of them, and a person asked for it; nothing is recorded.
        EnvironmentFileError: There is no such environment, or its file is not valid.
    """
    if request.deployment_id is not None or (flow_run.get_run_count() or 0) > 1:
        return None
    declared = await load_environment(environment, tuple(request.compose_files or ()))
    outside = outside_of_windows(environment, declared.update, datetime.now(UTC))
    if outside is None:
        return None
    asker, _ = requester(request.asked_by)
    if asker not in (SCHEDULE, AUTOMATION):
        raise BadInputError(outside, advice="wait for it, or update now with --now.")
    message = f"{outside.rstrip(';')}. Nothing was updated."
    log.info("%s", message)
    return Completed(name="Skipped", message=message)
