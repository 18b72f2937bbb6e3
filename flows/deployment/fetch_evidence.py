"""Keep what a registry or a build said where the image of a service cannot be had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flows.operation.recorder import OperationRecorder
from models.environments import Environment
from models.failures import ImageFetchError
from tasks.errors.evidence import keep_fetch_evidence


@asynccontextmanager
async def evidence_of_fetches(recorder: OperationRecorder, environment: Environment) -> AsyncIterator[None]:
    """Store as evidence what was printed while an image was pulled or built without success, and note its service.

    Raises:
        ImageFetchError: As the body raised it.
    """
    try:
        yield
    except ImageFetchError as error:
        recorder.facts["not_fetched"] = {"service": error.service, "kind": error.kind}
        await keep_fetch_evidence(environment, error, deployment_id=recorder.deployment_id)
        raise
