"""Every operation is recorded: that it began, what it finished, how it ended and why; a failure is handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from adapters.host.processes import this_process
from core.deployment.interruption import was_interrupted
from core.errors.classify import classify
from core.errors.verdicts import as_failure
from flows.recovery.error_recovery import error_recovery
from flows.runtime.identifiers import new_deployment_id, new_error_id
from flows.runtime.requester import requester
from flows.runtime.server_outages import keep_runs_without_lease
from flows.runtime.signals import ended_by_sigterm
from models.audit import Actor
from models.errors import RecordedError
from models.failures import (
    BadInputError,
    EnvironmentBusyError,
    LeaseLostError,
    OperationCancelledError,
    RoasError,
    StartFailedError,
    ValidationFailedError,
)
from models.operations import Operation, OperationStatus, OperationStep, OperationType, Runner
from models.recovery import RecoveryOutcome
from tasks.deployment.interruption import let_run, mark_interrupted, operation_of, record_step, take_up
from tasks.deployment.lease import LeaseHold, hold_environment
from tasks.deployment.records import begin_operation, finish_operation
from tasks.errors.redact import redact
from tasks.recovery.notify import DEPLOYMENT_FAILED, announce
from tasks.recovery.records import known_failure, record_error
from tasks.runtime.clients import open_clients_in_parallel, refuse_compose_files_of_deployments

log = logging.getLogger("roas")
keep_runs_without_lease()
Answer = TypeVar("Answer")

UNDO_WITHIN = timedelta(minutes=5)
"""How long undoing may take where the operation was cancelled: somebody waits for it to end."""

UNDOING = "undoing"
"""Step of an operation: from here on it is taken back, not gone on with; its detail is why it failed."""

_NOTHING_TO_UNDO = (EnvironmentBusyError, ValidationFailedError, LeaseLostError)
_OF_ONE_RUN = frozenset({"asked_by", "deployment_id", "plan", "wait_seconds"})
"""Parameters that belong to one run of a flow, not to what was asked of it."""


@dataclass(slots=True, kw_only=True)
class OperationRecorder:
    """One operation while it is being lived: its id, and the facts that go into its record.

    Where it was interrupted and is taken up again, `steps` are those it had finished, and `done` says so in
    short: the step's name, or the step's and the service's, as ("proven", "redis"). Where it `settles` its
    environment, ending it well resolves what earlier starts failed of.
    """

    deployment_id: str
    environment: str
    started_at: datetime
    facts: dict[str, Any] = field(default_factory=dict)
    recovery: RecoveryOutcome | None = None
    settles: bool = False
    steps: tuple[OperationStep, ...] = ()
    done: frozenset[str | tuple[str, str]] = frozenset()

    def took_seconds(self) -> float:
        """Seconds since the operation began."""
        return (datetime.now(UTC) - self.started_at).total_seconds()

    async def step(self, name: str, service: str | None = None, detail: str = "") -> None:
        """Write down that a step is finished, so that a resumed operation need not do it again.

        The name says what was done, of the service or the whole: "created", "proven".
        """
        record = record_step.with_options(task_run_name=f"record: {service} {name}" if service else f"record: {name}")
        await record(self.deployment_id, name, service, datetime.now(UTC), detail)

    def reported(self, name: str, service: str | None = None) -> str | None:
        """The detail of a step that was finished before the operation was taken up; None where it was not."""
        return next((one.detail for one in self.steps if (one.step, one.service) == (name, service)), None)


Undoing = Callable[[OperationRecorder, Exception], Awaitable[None]]


@asynccontextmanager
async def recorded(
    operation_type: OperationType,
    environment: str,
    *,
    asked_by: str | None = None,
    deployment_id: str | None = None,
    compose_files: tuple[str, ...] = (),
    wait_seconds: float = 0,
    undo: Undoing | None = None,
) -> AsyncIterator[OperationRecorder]:
    """Record an operation around its body; on any exception record the failure, hand it on, undo, raise again.

    `deployment_id` is given by a caller that wants to find the record afterwards; else one is made. An
    operation of this id, or of this flow run before it was retried, is taken up again where it was
    interrupted. `undo` is called while the environment is still held, after evidence was taken.

    Raises:
        EnvironmentBusyError: Another operation holds the environment and did not end within
            `wait_seconds`; recorded as a failure too, unless an operation was to be taken up again.
        LeaseLostError: Another operation took the environment, since this one was taken for dead.
        BadInputError: The operation of this id has ended, and not by an interruption; or a run of a deployment
            names Compose files.
    """
    refuse_compose_files_of_deployments(compose_files)
    open_clients_in_parallel()
    asker, actor = requester(asked_by)
    runner = this_process(str(flow_run.get_id() or ""))
    earlier = await _earlier(environment, deployment_id, runner)
    recorder = _recorder(environment, deployment_id, earlier)
    ours = earlier is None
    settled = False
    with ended_by_sigterm():
        try:
            if earlier is None:
                await _undisturbed(
                    begin_operation(_operation(recorder, operation_type, asker, actor, runner, wait_seconds))
                )
            holding = hold_environment(
                environment,
                owner=recorder.deployment_id,
                reason=f"{operation_type} by {asker}",
                runner=runner,
                wait=timedelta(seconds=wait_seconds),
            )
            # A health check only looks, so it neither waits for what acts nor keeps it waiting.
            async with nullcontext(LeaseHold()) if operation_type is OperationType.HEALTH_CHECK else holding as hold:
                await mark_interrupted(environment, datetime.now(UTC))
                if earlier is not None:
                    ours = await _undisturbed(_take_up(recorder, runner, asker, actor))
                elif wait_seconds:
                    await let_run(recorder.deployment_id)
                try:
                    yield recorder
                except BaseException as error:
                    settled = True
                    with suppress(asyncio.CancelledError):
                        await _undisturbed(_settle(recorder, operation_type, hold.lost or error, compose_files, undo))
                    raise
                settled = True
                await _undisturbed(_finish(recorder, OperationStatus.SUCCESS, {}))
        except BaseException as error:
            if ours and not settled:
                with suppress(asyncio.CancelledError):
                    await _undisturbed(_settle(recorder, operation_type, error, compose_files, None))
            raise


async def _earlier(environment: str, deployment_id: str | None, runner: Runner) -> Operation | None:
    """The operation to take up again: this run's before it was retried, or the one of the given id."""
    retried = (flow_run.get_run_count() or 0) > 1
    if not retried and deployment_id is None:
        return None
    known = await operation_of(environment, deployment_id, runner.flow_run_id if retried else None)
    if known is None or known.ended_at is None or was_interrupted(known):
        return known
    if retried:
        # It failed by itself, so this is a new attempt, with a record of its own.
        return None
    raise BadInputError(
        f"Deployment {known.deployment_id} has ended ({known.status}) and was not interrupted;",
        advice="start again without its id.",
    )


def _recorder(environment: str, deployment_id: str | None, earlier: Operation | None) -> OperationRecorder:
    now = datetime.now(UTC)
    if earlier is not None:
        return OperationRecorder(
            deployment_id=earlier.deployment_id, environment=environment, started_at=earlier.started_at
        )
    retried = (flow_run.get_run_count() or 0) > 1
    name = deployment_id if deployment_id and not retried else new_deployment_id(environment, now)
    return OperationRecorder(deployment_id=name, environment=environment, started_at=now)


def _operation(
    recorder: OperationRecorder,
    operation_type: OperationType,
    asker: str,
    actor: Actor,
    runner: Runner,
    wait_seconds: float,
) -> Operation:
    details: dict[str, Any] = {"flow_run_id": runner.flow_run_id, "runner": asdict(runner)}
    if context := FlowRunContext.get():
        given = flow_run.get_parameters()
        details["asked"] = {
            "flow": context.flow.name if context.flow else "",
            "parameters": {name: value for name, value in given.items() if name not in _OF_ONE_RUN},
        }
    if wait_seconds:
        details["waits_until"] = recorder.started_at + timedelta(seconds=wait_seconds)
    return Operation(
        deployment_id=recorder.deployment_id,
        operation_type=operation_type,
        environment=recorder.environment,
        status=OperationStatus.PENDING if wait_seconds else OperationStatus.RUNNING,
        started_at=recorder.started_at,
        user_agent=asker,
        actor=actor,
        details=details,
    )


async def _take_up(recorder: OperationRecorder, runner: Runner, asker: str, actor: Actor) -> bool:
    """Go on with an interrupted operation; the story then knows what it had finished.

    Raises:
        BadInputError: It is not interrupted any more: it has ended, or another takes it up.
    """
    steps = await take_up(recorder.deployment_id, runner, datetime.now(UTC), asker, actor)
    if steps is None:
        raise BadInputError(
            f"Deployment {recorder.deployment_id} cannot be taken up: it was not interrupted, or goes on already;",
            advice=f"`roas show {recorder.deployment_id}` tells how it stands.",
        )
    recorder.steps = tuple(steps)
    recorder.done = frozenset((one.step, one.service) if one.service else one.step for one in steps)
    log.info("%s is taken up again after %d finished steps", recorder.deployment_id, len(steps))
    return True


async def _settle(
    recorder: OperationRecorder,
    operation_type: OperationType,
    error: BaseException,
    compose_files: tuple[str, ...],
    undo: Undoing | None,
) -> None:
    """Hand a failure on, undo what was done, and record how it ended. What fails here is logged: the
    failure itself is what the caller must see.
    """
    cancelled = not isinstance(error, Exception)
    failure = _as_failure(error, operation_type, recorder.environment)
    text = await _redacted(recorder, failure, compose_files)
    advice = failure.advice if isinstance(failure, RoasError) else ""
    log.error("%s of %s failed: %s", operation_type, recorder.environment, text)
    announce(
        DEPLOYMENT_FAILED,
        recorder.environment,
        service=failure.service if isinstance(failure, StartFailedError) else None,
        deployment_id=recorder.deployment_id,
        text=text,
    )
    try:
        # What was being undone when its runner was lost is on record already, with its evidence.
        if not cancelled and UNDOING not in recorder.done:
            await _hand_on(recorder, operation_type, failure, text, compose_files)
        recorder.facts["reason"] = text
        if undo is not None and not isinstance(failure, _NOTHING_TO_UNDO):
            await _undo(recorder, failure, compose_files, undo, UNDO_WITHIN if cancelled else None)
    finally:
        facts = {"reason": text, "advice": advice, "error": type(failure).__name__}
        try:
            await _finish(recorder, OperationStatus.FAILED, facts)
        except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
            log.error("the end of %s could not be recorded: %s", recorder.deployment_id, trouble)


def _as_failure(error: BaseException, operation_type: OperationType, environment: str) -> Exception:
    if isinstance(error, Exception):
        return error
    how = "cancelled" if isinstance(error, asyncio.CancelledError) else f"ended by {type(error).__name__}"
    return OperationCancelledError(f"{operation_type} of {environment} was {how} before it had ended.")


async def _hand_on(
    recorder: OperationRecorder,
    operation_type: OperationType,
    failure: Exception,
    text: str,
    compose_files: tuple[str, ...],
) -> None:
    """Let error recovery take the evidence and record the error, before anything is replaced.

    That another operation holds the environment is no error of the application: the operation's own record says it.
    """
    if isinstance(failure, EnvironmentBusyError):
        return
    service = failure.service if isinstance(failure, StartFailedError) else None
    source = "validation" if isinstance(failure, ValidationFailedError) else str(operation_type)
    try:
        recorder.recovery = await error_recovery(
            environment=recorder.environment,
            text=text,
            deployment_id=recorder.deployment_id,
            service=service,
            source=source,
            compose_files=list(compose_files),
            act=False,
        )
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        said = await _redacted(recorder, trouble, compose_files)
        log.error("the failure of %s could not be handed to error recovery: %s", recorder.deployment_id, said)
        await _record_plainly(recorder, text, service, source)


async def _record_plainly(recorder: OperationRecorder, text: str, service: str | None, source: str) -> None:
    """Write down what failed where error recovery could not: an operation that failed has an error on record."""
    now = datetime.now(UTC)
    error = RecordedError(
        error_id=new_error_id(now),
        environment=recorder.environment,
        text=text,
        source=source,
        verdict=as_failure(classify(text), text),
        first_seen=now,
        last_seen=now,
        deployment_id=recorder.deployment_id,
        service=service,
    )
    try:
        if not await known_failure(recorder.deployment_id):
            await record_error(error)
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        log.error("the failure of %s could not be recorded: %s", recorder.deployment_id, trouble)


async def _undo(
    recorder: OperationRecorder,
    failure: Exception,
    compose_files: tuple[str, ...],
    undo: Undoing,
    within: timedelta | None,
) -> None:
    try:
        async with asyncio.timeout(None if within is None else within.total_seconds()):
            await undo(recorder, failure)
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        said = await _redacted(recorder, trouble, compose_files)
        recorder.facts["undo_failed"] = said
        log.error("%s could not be undone: %s", recorder.deployment_id, said)


async def _redacted(recorder: OperationRecorder, error: Exception, compose_files: tuple[str, ...]) -> str:
    said = error.what if isinstance(error, RoasError) else str(error)
    try:
        return await redact(recorder.environment, said or type(error).__name__, compose_files)
    except Exception:  # noqa: BLE001 - what is secret cannot be told, so nothing of the words may be shown
        return type(error).__name__


async def _finish(recorder: OperationRecorder, status: OperationStatus, facts: dict[str, Any]) -> None:
    settles = recorder.environment if recorder.settles and status is OperationStatus.SUCCESS else None
    settled = await finish_operation(
        recorder.deployment_id, status, datetime.now(UTC), recorder.facts | facts, settles=settles
    )
    for error_id in settled:
        log.info("error %s is resolved: start %s was proven", error_id, recorder.deployment_id)


async def _undisturbed(doing: Coroutine[Any, Any, Answer]) -> Answer:
    """Do it to its end, also where the caller is cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.create_task(doing)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    answer = task.result()
    if cancelled is not None:
        raise cancelled
    return answer
