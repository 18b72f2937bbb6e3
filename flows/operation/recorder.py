"""Record an operation: that it began, which steps it finished, how it ended and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from adapters.host.processes import this_process
from adapters.stores.outages import outlast_outages
from core.errors.redact import Redactor
from core.reporting.timing import Phase
from flows.common.phases import time_phase
from flows.common.requester import requester
from flows.common.server_outages import keep_runs_without_lease
from flows.common.signals import end_by_sigterm
from models.audit import Actor
from models.environments import Environment
from models.failures import (
    BadInputError,
    EnvironmentBusyError,
    HalfRestoredError,
    LeaseLostError,
    NeedDownError,
    NotFoundError,
    OperationCancelledError,
    PausedError,
    RoasError,
    StartFailedError,
    StoreError,
    StoreUnreachableError,
)
from models.operations import OWN_KINDS, Operation, OperationStatus, OperationStep, OperationType, StateChange
from models.operations.record import FlowRequest, OperationRecord, Runner, write_record
from models.recovery import RecoveryOutcome
from models.results import OperationResult, ServiceStart
from tasks.deployment.belonging import bind_here, refuse_elsewhere
from tasks.deployment.lease import LeaseHold, hold_environment
from tasks.deployment.operations import (
    begin_operation,
    finish_operation,
    let_run,
    mark_interrupted,
    operation_of,
    overtaking,
    record_step,
    take_up,
)
from tasks.errors.redact import redact
from tasks.recovery.notify import notify_where_asked
from tasks.runtime.clients import open_clients_in_parallel, refuse_compose_files_of_deployments
from tasks.runtime.hosts import refuse_resume, this_host
from tasks.runtime.identifiers import new_operation_id
from tasks.runtime.project import Project, load_project
from tasks.runtime.shown_later import all_shown
from tasks.runtime.traces import describe_span, traceparent

log = logging.getLogger("roas")
keep_runs_without_lease()
Answer = TypeVar("Answer")

ROLL_BACK_WITHIN = timedelta(minutes=5)
"""How long the rollback of a cancelled operation may take: the process that cancelled it waits for its end."""

ROLLING_BACK = "undoing"
"""Step of an operation: from here on it is rolled back, not continued; its detail is why it failed."""

_NOTHING_TO_ROLL_BACK = (EnvironmentBusyError, LeaseLostError, HalfRestoredError, NeedDownError)
_OF_ONE_RUN = frozenset({"asked_by", "deployment_id", "plan", "wait_seconds"})
"""Parameters that belong to one run of a flow, not to the operation that was requested."""


@dataclass(slots=True, kw_only=True)
class OperationRecorder:
    """One operation while it runs: its id, its environment, and its record.

    Where it was interrupted and is taken up again, `steps` are those it had finished, and `done` says so in
    short: the step's name, or the step's and the service's, as ("proven", "redis"). An operation that `settles`
    its environment resolves at its success the errors of earlier starts, or those of `settled_services` alone.
    """

    deployment_id: str
    operation_type: OperationType
    name: str
    """The environment's name."""
    compose_files: tuple[str, ...] = ()
    started_at: datetime
    kind: str = ""
    """What a person calls it: an update and a rollback are recorded as a start."""
    opened: Project | None = None
    redactor: Redactor = field(default_factory=lambda: Redactor(()))
    """Removes the environment's secrets from a text, once it is loaded."""
    record: OperationRecord = field(default_factory=OperationRecord)
    awaited: dict[str, str] = field(default_factory=dict)
    """Which services a start that was cancelled still waited for, and why."""
    recovery: RecoveryOutcome | None = None
    settles: bool = False
    settled_services: frozenset[str] | None = None
    steps: tuple[OperationStep, ...] = ()
    done: frozenset[str | tuple[str, str]] = frozenset()
    interrupted: str = ""
    """How it was interrupted, where it was taken up again."""

    @property
    def environment(self) -> Environment:
        """The environment as it was loaded, as of `project`."""
        return self.project.environment

    @property
    def project(self) -> Project:
        """The environment with its clients, once it is open.

        Raises:
            NotFoundError: It is not yet.
        """
        if self.opened is None:
            raise NotFoundError(f"Environment {self.name} is not loaded.")
        return self.opened

    async def open(self) -> Project:
        """Open the environment with its clients, once for the whole operation.

        One that no host has operated yet belongs to this host from then on.

        Raises:
            EnvironmentFileError: There is no such file, or it is not a valid environment.
            WrongHostError: It belongs to another host.
        """
        if self.opened is None:
            self.opened = await load_project(self.name, self.compose_files)
            await bind_here(self.name)
            self.redactor = await asyncio.to_thread(self.opened.redactor)
        return self.opened

    def result(self, reason: str, *, success: bool = True, **fields: Any) -> OperationResult:
        """The result of the operation."""
        return OperationResult(
            success=success,
            deployment_id=self.deployment_id,
            environment=self.name,
            reason=reason,
            took_seconds=(datetime.now(UTC) - self.started_at).total_seconds(),
            **fields,
        )

    def change(self, start: ServiceStart, details: dict[str, Any]) -> StateChange:
        """A service's change by this operation, for the record."""
        return StateChange(
            deployment_id=self.deployment_id,
            service=start.service,
            previous_state=start.previous_state or None,
            new_state=start.state,
            changed_at=datetime.now(UTC),
            reason=start.reason,
            details=details,
        )

    async def step(self, name: str, service: str | None = None, detail: str = "") -> None:
        """Record that a step is finished, so that a resumed operation need not do it again.

        The name says what was done, of the service or the whole: "created", "proven".
        """
        await record_step(self.deployment_id, name, service, datetime.now(UTC), detail)

    def step_detail(self, name: str, service: str | None = None) -> str | None:
        """The detail of a step that was finished before the operation was taken up; None where it was not."""
        return next((step.detail for step in self.steps if (step.step, step.service) == (name, service)), None)

    @property
    def earlier_failure(self) -> StartFailedError | None:
        """Why it failed, where it was being rolled back when its runner was lost: then only this goes on."""
        if ROLLING_BACK not in self.done:
            return None
        return StartFailedError(
            f"{self.step_detail(ROLLING_BACK)}; its runner was lost during the rollback",
            advice=f"`roas why {self.deployment_id}` says what failed first.",
        )

    async def without_secrets(self, error: Exception) -> str:
        """What an error says, as it may be recorded and logged."""
        text = error.what.rstrip(";") if isinstance(error, RoasError) else str(error)
        try:
            return await redact(self.opened or self.name, text or type(error).__name__, self.compose_files)
        except Exception:  # noqa: BLE001 - the secrets are unknown, so the text may hold one
            return type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFailure:
    """Why an operation failed; `text` is without secrets."""

    error: Exception
    text: str
    cancelled: bool


OnFailure = Callable[[OperationRecorder, OperationFailure], Awaitable[RecoveryOutcome | None]]
"""Takes the evidence of a failure and records the error, before anything is replaced."""

Rollback = Callable[[Exception], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """The parameters of a flow that say how its operation is requested.

    `deployment_id` is that of an interrupted operation which is to go on. `compose_files` are those of an application
    without an environment file. `wait_seconds` is how long to wait for another operation to end.
    """

    asked_by: str | None = None
    deployment_id: str | None = None
    compose_files: Sequence[str] | None = None
    wait_seconds: float = 0


@asynccontextmanager
async def record_operation(
    operation_type: OperationType,
    environment: str,
    request: OperationRequest,
    *,
    on_failure: OnFailure | None = None,
    rollback: Rollback | None = None,
) -> AsyncIterator[OperationRecorder]:
    """Record an operation around its body; on any exception call `on_failure`, roll back, record it, raise again.

    An operation of the given id, or of this flow run before it was retried, is taken up again where it was
    interrupted. `rollback` is called while the environment is still held, after `on_failure`.

    Raises:
        WrongHostError: The environment belongs to another host; nothing is recorded.
        EnvironmentBusyError: Another operation holds the environment and did not end within
            `wait_seconds`; recorded as a failure too, unless an operation was to be taken up again.
        LeaseLostError: Another operation took the environment, because the lease of this one had expired.
        BadInputError: The operation of this id has ended, and not by an interruption, or was overtaken by a later one;
            or a run of a deployment names Compose files.
    """
    refuse_compose_files_of_deployments(request.compose_files or ())
    await refuse_elsewhere(environment)
    open_clients_in_parallel()
    asker, actor = requester(request.asked_by)
    runner, wait = this_process(str(flow_run.get_id() or "")), timedelta(seconds=request.wait_seconds)
    recorder, goes_on = await _recorder(operation_type, environment, request, runner)
    ours, settled = not goes_on, False
    describe_span(environment=environment, deployment_id=recorder.deployment_id, operation_type=str(operation_type))
    async with _notify_at_end(recorder):
        with end_by_sigterm():
            try:
                if not goes_on:
                    await _finish_undisturbed(begin_operation(_operation(recorder, asker, actor, runner, wait)))
                outlast_outages()
                reason = f"{recorder.kind} by {asker}"
                holding = hold_environment(
                    environment, owner=recorder.deployment_id, reason=reason, runner=runner, wait=wait
                )
                # A health check only reads, so it neither waits for what acts nor keeps it waiting.
                async with (
                    nullcontext(LeaseHold()) if operation_type is OperationType.HEALTH_CHECK else holding as hold
                ):
                    await mark_interrupted(environment, datetime.now(UTC))
                    if goes_on:
                        await _finish_undisturbed(_take_up(recorder, runner, asker, actor))
                        ours = True
                    elif wait:
                        await let_run(recorder.deployment_id)
                    try:
                        yield recorder
                    except BaseException as error:
                        settled = True
                        with suppress(asyncio.CancelledError):
                            await _finish_undisturbed(_settle(recorder, hold.lost or error, on_failure, rollback))
                        raise
                    settled = True
                    await _finish_undisturbed(_finish(recorder, OperationStatus.SUCCESS))
            except BaseException as error:
                if ours and not settled:
                    with suppress(asyncio.CancelledError):
                        await _finish_undisturbed(_settle(recorder, error, on_failure, None))
                raise


@asynccontextmanager
async def _notify_at_end(recorder: OperationRecorder) -> AsyncIterator[None]:
    """Wait until all is shown and send what is due, once the operation has ended and the environment is free.

    After a cancel the next operation sends it.
    """
    try:
        try:
            yield
        finally:
            await all_shown()
    except Exception:
        await notify_where_asked(recorder.opened.environment if recorder.opened else None)
        raise
    await notify_where_asked(recorder.opened.environment if recorder.opened else None)


async def _recorder(
    operation_type: OperationType, environment: str, request: OperationRequest, runner: Runner
) -> tuple[OperationRecorder, bool]:
    """The recorder, and whether it takes an operation up again: this run's before it was retried, or the given one."""
    now, retried, operation = datetime.now(UTC), (flow_run.get_run_count() or 0) > 1, None
    if retried or request.deployment_id is not None:
        operation = await operation_of(environment, request.deployment_id, runner.flow_run_id if retried else None)
    if operation is not None and operation.ended_at is not None and not operation.record.interrupted:
        if not retried:
            raise BadInputError(
                f"Deployment {operation.deployment_id} has ended ({operation.status}) and was not interrupted;",
                advice="start again without its id.",
            )
        # It failed by itself, so this is a new attempt, with a record of its own.
        operation = None
    if operation is not None:
        refuse_resume(operation)
        if (later := await overtaking(operation)) is not None:
            # Its steps, and the images that it would give names back to, are those of before.
            raise BadInputError(
                f"Deployment {operation.deployment_id} is overtaken: the {later.kind} {later.deployment_id} succeeded "
                "since;",
                advice=f"start again: {operation.again}.",
            )
    deployment_id = None if retried else request.deployment_id
    recorder = OperationRecorder(
        deployment_id=operation.deployment_id if operation else deployment_id or new_operation_id(environment, now),
        operation_type=operation_type,
        kind=_kind(operation_type),
        name=environment,
        compose_files=tuple(request.compose_files or ()),
        started_at=operation.started_at if operation else now,
    )
    return recorder, operation is not None


def _kind(operation_type: OperationType) -> str:
    context = FlowRunContext.get()
    flow = context.flow.name if context and context.flow else ""
    if flow in OWN_KINDS:
        return OWN_KINDS[flow]
    return flow if flow in ("update", "rollback", "sync", "drill") else str(operation_type)


def _operation(recorder: OperationRecorder, asker: str, actor: Actor, runner: Runner, wait: timedelta) -> Operation:
    record = OperationRecord(flow_run_id=runner.flow_run_id, runner=runner)
    if context := FlowRunContext.get():
        parameters = {name: value for name, value in flow_run.get_parameters().items() if name not in _OF_ONE_RUN}
        record.asked = FlowRequest(flow=context.flow.name if context.flow else "", parameters=parameters)
    if wait:
        record.waits_until = recorder.started_at + wait
    if (span := traceparent()) is not None:
        record.traceparent = span
    return Operation(
        deployment_id=recorder.deployment_id,
        operation_type=recorder.operation_type,
        environment=recorder.name,
        status=OperationStatus.PENDING if wait else OperationStatus.RUNNING,
        started_at=recorder.started_at,
        user_agent=asker,
        actor=actor,
        details=write_record(record),
        host_id=this_host().host_id,
    )


async def _take_up(recorder: OperationRecorder, runner: Runner, asker: str, actor: Actor) -> None:
    """Continue an interrupted operation; its recorder then has the steps that it had finished.

    Raises:
        BadInputError: It is not interrupted any more: it has ended, or another process takes it up.
    """
    steps = await take_up(recorder.deployment_id, runner, datetime.now(UTC), asker, actor)
    if steps is None:
        raise BadInputError(
            f"Deployment {recorder.deployment_id} cannot be resumed: it was not interrupted, or is resumed already;",
            advice=f"`roas history {recorder.deployment_id}` shows its state.",
        )
    operation = await operation_of(recorder.name, recorder.deployment_id, None)
    recorder.interrupted = operation.record.resumed[-1].interrupted if operation is not None else ""
    recorder.steps = tuple(steps)
    recorder.done = frozenset((step.step, step.service) if step.service else step.step for step in steps)
    log.info("%s is resumed after %d finished steps", recorder.deployment_id, len(steps))


async def _settle(
    recorder: OperationRecorder, error: BaseException, on_failure: OnFailure | None, rollback: Rollback | None
) -> None:
    """Report a failure, roll back, and record how the operation ended.

    What fails here is logged: the failure itself is what the caller must see.
    """
    failure, within = error, None
    if not isinstance(failure, Exception):
        how = "cancelled" if isinstance(error, asyncio.CancelledError) else f"ended by {type(error).__name__}"
        what = f"{recorder.kind} of {recorder.name} was {how} before it had ended{_still_awaited(recorder)}."
        failure, within = OperationCancelledError(what), ROLL_BACK_WITHIN.total_seconds()
    # It was taken up and has touched nothing, so it can be taken up once more.
    stays = bool(recorder.interrupted) and isinstance(failure, PausedError)
    text = await recorder.without_secrets(failure)
    if isinstance(failure, StoreUnreachableError):
        text = f"the stores stayed away: {text}"
    log.error("%s of %s failed: %s", recorder.kind, recorder.name, text)
    try:
        if on_failure is not None:
            reported = OperationFailure(error=failure, text=text, cancelled=within is not None)
            recorder.recovery = await _report(recorder, reported, on_failure)
        recorder.record.reason = text
        if rollback is not None and not stays and not isinstance(failure, _NOTHING_TO_ROLL_BACK):
            recorder.awaited.clear()
            try:
                with time_phase(Phase.ROLLBACK):
                    async with asyncio.timeout(within):
                        await rollback(failure)
            except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
                undo_failed = await recorder.without_secrets(_describe(recorder, trouble, within))
                if isinstance(trouble, StoreError):
                    undo_failed = (
                        f"the stores that hold the releases did not answer, so containers are as the {recorder.kind} "
                        f"left them; once they answer: roas rollback {recorder.name} ({undo_failed})"
                    )
                recorder.record.undo_failed = undo_failed
                log.error("%s could not be rolled back: %s", recorder.deployment_id, undo_failed)
    finally:
        record = recorder.record
        record.reason, record.error = text, type(failure).__name__
        record.advice = failure.advice if isinstance(failure, RoasError) else ""
        if stays:
            record.interrupted = recorder.interrupted
        try:
            await _finish(recorder, OperationStatus.FAILED)
        except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
            log.error("the end of %s could not be recorded: %s", recorder.deployment_id, trouble)


async def _report(
    recorder: OperationRecorder, failure: OperationFailure, on_failure: OnFailure
) -> RecoveryOutcome | None:
    """Report a failure; where that fails it is logged, since nothing may keep the operation from being rolled back."""
    try:
        return await on_failure(recorder, failure)
    except Exception as trouble:  # noqa: BLE001 - whatever fails here must not hide why the operation failed
        text = await recorder.without_secrets(trouble)
        log.error("the failure of %s could not be reported: %s", recorder.deployment_id, text)
        return None


def _still_awaited(recorder: OperationRecorder) -> str:
    return "".join(f"; {name} was awaited: {why.rstrip('.')}" for name, why in recorder.awaited.items())


def _describe(recorder: OperationRecorder, trouble: Exception, within: float | None) -> Exception:
    """The error of a rollback; where its time was over, which services it still waited for."""
    if within is None or not isinstance(trouble, TimeoutError):
        return trouble
    return RoasError(f"it had not ended after {within:.0f} s{_still_awaited(recorder)}")


async def _finish(recorder: OperationRecorder, status: OperationStatus) -> None:
    record = recorder.record
    settles = recorder.name if recorder.settles and status is OperationStatus.SUCCESS else None
    describe_span(
        outcome=str(status),
        release=record.release or None,
        rollback_to=record.rollback_to or record.rolled_back_to or None,
        error=record.error or None,
        error_id=recorder.recovery.error_id if recorder.recovery else None,
    )
    settled = await finish_operation(
        recorder.deployment_id,
        status,
        datetime.now(UTC),
        record,
        settles=settles,
        services=None if recorder.settled_services is None else tuple(sorted(recorder.settled_services)),
    )
    for error_id in settled:
        log.info("error %s is resolved: start %s was proven", error_id, recorder.deployment_id)


async def _finish_undisturbed(doing: Coroutine[Any, Any, Answer]) -> Answer:
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
