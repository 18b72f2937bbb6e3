"""Hand the failure of an operation to error recovery: the `on_failure` hook that the flows give."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from adapters.pattern_files import shipped_set
from adapters.stores.recovery_writes import RecordError
from core.errors.classify import as_failure, classify
from flows.operation.recorder import ROLLING_BACK, OperationFailure, OperationRecorder
from flows.recovery.error_recovery import error_recovery
from models.errors import REFUSED, RecordedError
from models.failures import (
    BadInputError,
    EnvironmentBusyError,
    EnvironmentFileError,
    GateRefusedError,
    HalfRestoredError,
    ImageFetchError,
    LeaseLostError,
    NeedDownError,
    NotFoundError,
    PlanChangedError,
    StartFailedError,
    StoreError,
    StoreUnreachableError,
    ValidationFailedError,
)
from models.operations.record import FetchFailure
from models.recovery import RecoveryOutcome
from tasks.errors.evidence import failure_evidence, keep_fetch_evidence
from tasks.recovery.notify import DEPLOYMENT_FAILED, announce
from tasks.recovery.records import known_failure, record_error
from tasks.runtime.identifiers import new_error_id
from tasks.runtime.store_access import leave_in_journal

log = logging.getLogger("roas")

_NO_ERROR_OF_THE_APPLICATION = (
    EnvironmentBusyError,
    LeaseLostError,
    StoreUnreachableError,
    GateRefusedError,
    HalfRestoredError,
    NeedDownError,
)


async def escalate(recorder: OperationRecorder, failure: OperationFailure) -> RecoveryOutcome | None:
    """Announce a failure, and let error recovery take its evidence and record the error; it takes no action.

    That another operation holds or took the environment, or did not finish to restore it or to rotate a password of it,
    that the stores stayed away, that another environment which it needs is down, that the environment's own gate
    refused, or that a person asked for what does not exist or is no longer what would be done, is no error of the
    application. Where the runner was lost during a rollback, the failure
    and its evidence are on record already.
    """
    error = failure.error
    if isinstance(error, BadInputError | NotFoundError | PlanChangedError) and not isinstance(
        error, EnvironmentFileError
    ):
        return None
    if isinstance(error, ImageFetchError) and recorder.opened is not None:
        recorder.record.not_fetched = FetchFailure(service=error.service, kind=error.kind)
        await keep_fetch_evidence(recorder.project, error, deployment_id=recorder.deployment_id)
    service = error.service if isinstance(error, StartFailedError | ValidationFailedError) else None
    announce(DEPLOYMENT_FAILED, recorder.name, service=service, deployment_id=recorder.deployment_id, text=failure.text)
    if failure.cancelled and recorder.opened is not None:
        # What the person saw who cancelled it may be the cause, and the rollback replaces it.
        for name in recorder.awaited:
            await failure_evidence(
                recorder.project, None, name, deployment_id=recorder.deployment_id, reason=failure.text
            )
    if failure.cancelled or ROLLING_BACK in recorder.done or isinstance(error, _NO_ERROR_OF_THE_APPLICATION):
        return None
    source = REFUSED if isinstance(error, ValidationFailedError) else str(recorder.operation_type)
    try:
        return await error_recovery(
            environment=recorder.name,
            text=failure.text,
            deployment_id=recorder.deployment_id,
            service=service,
            source=source,
            compose_files=list(recorder.compose_files),
            act=False,
        )
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        text = await recorder.without_secrets(trouble)
        log.error("the failure of %s could not be handed to error recovery: %s", recorder.deployment_id, text)
        await _record_error(recorder, failure.text, service, source)
        return None


async def _record_error(recorder: OperationRecorder, text: str, service: str | None, source: str) -> None:
    """Record the error where error recovery could not: an operation that failed has an error on record."""
    now = datetime.now(UTC)
    error = RecordedError(
        error_id=new_error_id(now),
        environment=recorder.name,
        text=text,
        source=source,
        verdict=as_failure(classify(text, shipped_set()), text),
        first_seen=now,
        last_seen=now,
        deployment_id=recorder.deployment_id,
        service=service,
    )
    try:
        if not await known_failure(recorder.deployment_id):
            await record_error(RecordError(error=error))
    except StoreError:
        await leave_in_journal(RecordError(error=error))
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        log.error("the failure of %s could not be recorded: %s", recorder.deployment_id, trouble)
