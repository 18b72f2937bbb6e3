"""Records of recovery: errors, attempts, tickets, and what is read of them before a plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext

from adapters.host.processes import is_alive
from adapters.pattern_files import compile_patterns, shipped_patterns
from adapters.stores import Stores
from adapters.stores.recovery_writes import (
    FinishAttempt,
    KeepReason,
    LetTicketWait,
    LinkEvidence,
    OpenTicket,
    RecordError,
    ResolveError,
    WriteAttempt,
    read_for_plan,
)
from core.deployment.plan import paused_services
from core.errors.match import PatternSet
from core.recovery.going_back import data_changed_since, ways_back, why_not_alone
from core.recovery.policy import OBSERVED_SOURCES, RecoveryFacts
from core.recovery.records import is_paused, with_error, with_execution, with_recorded, without_error
from core.recovery.tracker import NO_SERVICE
from core.recovery.triage import STOPPED
from models.errors import Pattern, RecordedError
from models.failures import NotFoundError, StoreError
from models.metrics import HOST
from models.operations import FOUND, Operation, OperationStatus, OperationType
from models.records import RecoveryRecords
from models.recovery import Choice, RecoveryExecution, Ticket, TicketEntry
from tasks.recovery.actions import release_before
from tasks.recovery.approve import cancel_run
from tasks.recovery.stops import Stopped, note_stop, was_stopped
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import WRITE, make_async, retry_read
from tasks.runtime.store_access import ANSWER_WITHIN, BUDGET_WINDOW, from_stores, to_stores, use_local_ids
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task
from tasks.runtime.traces import traceparent

PREDICTION = "prediction"
"""The source of errors that monitoring expects."""

_RESUMABLE_WITHIN = timedelta(hours=1)
"""An attempt that was interrupted longer ago is not continued: the service is diagnosed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFacts:
    """What is on record before a diagnosis.

    `deployed_seconds_ago` is how long ago the latest proven start ended; None without one on record. `again` is the
    command that begins the failed operation again, `untouched` whether that had changed nothing, `typed` whether a
    person had typed it.
    """

    patterns: PatternSet
    deployed_seconds_ago: float | None
    again: str = ""
    untouched: bool = False
    typed: bool = False


@retry_read
async def read_patterns() -> PatternSet:
    """Return the patterns of errors.db, or the shipped ones where it cannot be read."""
    return compile_patterns(await from_stores(_patterns, lambda records: records.patterns or shipped_patterns()))


@retry_read
async def read_known_facts(environment: str, now: datetime, deployment_id: str | None) -> KnownFacts:
    """Return what is on record of an environment, and of the operation that failed in it."""

    def read(stores: Stores) -> tuple[datetime | None, tuple[Pattern, ...], str, bool, bool]:
        latest = stores.operations.history(environment, OperationType.START, OperationStatus.SUCCESS, limit=1)
        ended = latest[0].ended_at if latest else None
        failed = stores.operations.find(deployment_id) if deployment_id else None
        if failed is None:
            return ended, _patterns(stores), "", False, False
        return ended, _patterns(stores), failed.again, _changed_nothing(stores, failed), failed.typed

    def known_here(records: RecoveryRecords) -> tuple[datetime | None, tuple[Pattern, ...], str, bool, bool]:
        return records.started_at, records.patterns or shipped_patterns(), "", False, False

    ended, patterns, again, untouched, typed = await from_stores(read, known_here)
    return KnownFacts(
        patterns=await asyncio.to_thread(compile_patterns, patterns),
        deployed_seconds_ago=None if ended is None or ended > now else (now - ended).total_seconds(),
        again=again,
        untouched=untouched,
        typed=typed,
    )


def _changed_nothing(stores: Stores, failed: Operation) -> bool:
    begins_so = failed.operation_type is OperationType.START and failed.kind != "restore"
    return begins_so and all(step.step != FOUND for step in stores.progress.steps(failed.deployment_id))


def _patterns(stores: Stores) -> tuple[Pattern, ...]:
    return tuple(stores.patterns.all())


@task(name="record the error", **WRITE)
async def record_error(write: RecordError) -> RecordedError:
    """Record an error, or count the same open one up, with its impact, evidence and health, in one transaction."""
    return await to_stores(write, lambda records: with_error(records, write.error), with_recorded)


def _once_for_the_run(context: TaskRunContext, _parameters: dict[str, Any]) -> str | None:
    return f"{context.task_run.flow_run_id}:{context.task.task_key}"


record_error_of_the_run = record_error.with_options(
    persist_result=True,
    result_serializer="json",
    cache_policy=CacheKeyFnPolicy(cache_key_fn=_once_for_the_run),
)
"""Records an error once in a run that may be suspended and begin again from the top."""


@retry_read
@make_async
def known_failure(deployment_id: str) -> bool:
    """Whether an operation's record names the error it failed of."""
    operation = open_stores().operations.find(deployment_id)
    return operation is not None and bool(operation.record.error_id)


@retry_read
async def past_recoveries(error_id: str, since: datetime) -> list[RecoveryExecution]:
    """Return all attempts at this error, and those at others since a moment, oldest first."""
    return list((await _records_for_plan("", error_id, since, datetime.now(UTC))).executions)


async def _records_for_plan(environment: str, error_id: str, since: datetime, now: datetime) -> RecoveryRecords:
    empty_records = RecoveryRecords(environment=environment)
    return use_local_ids(
        await from_stores(
            lambda stores: read_for_plan(stores, empty_records, error_id, since, now), lambda records: records
        )
    )


@retry_read
async def snapshot_before_planning(
    error: RecordedError, project: Project | None, facts: RecoveryFacts, *, now: datetime
) -> tuple[Sequence[RecoveryExecution], RecoveryFacts]:
    """Read all that a plan depends on at once, since a service is down meanwhile.

    Returns:
        The earlier attempts, oldest first, and the given facts with a person's wishes and the release.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    service = facts.service
    records = await _records_for_plan(error.environment, error.error_id, now - BUDGET_WINDOW, now)
    past, facts = records.executions, replace(facts, paused=is_paused(records, service, now))
    if project is None or service is None:
        return past, facts
    # A dependency that another attempt stopped for a moment is not kept down by a person.
    ours = {
        execution.service
        for execution in past
        if execution.environment == error.environment and execution.ended_at is None
    }
    needed = [name for name in error.dependencies_down if name not in ours]

    canaries = [hook.name for hook in project.environment.hooks.after if hook.canary is not None]

    def inspect() -> tuple[Stopped, dict[str, Stopped], timedelta | None, RecoveryFacts]:
        container_states = project.inspect_containers()
        paused = paused_services(container_states)
        before, deployed_ago = release_before(records.releases, container_states, error.first_seen)
        changed = data_changed_since(before, records.data_steps, canaries) if before is not None else ()
        back = replace(facts, container_paused=service in paused)
        if before is not None and changed:
            back = replace(back, why_not_back=why_not_alone(changed), ways_back=ways_back(before, changed))
        return (
            was_stopped(project, service, container_states, records),
            {
                # No action can help the dependants of what a person stopped or paused.
                name: STOPPED if name in paused else was_stopped(project, name, container_states, records)
                for name in needed
            },
            deployed_ago,
            back,
        )

    stop, down, deployed_ago, back = await asyncio.to_thread(inspect)
    return past, replace(
        back,
        stopped=await note_stop(stop),
        deployed_ago=deployed_ago if facts.acting else None,
        kept_down=tuple([name for name in needed if await note_stop(down[name]) is not None]),
    )


@task(name="record the attempt", **WRITE)
async def write_attempt(execution: RecoveryExecution) -> None:
    """Record how far an attempt has come: that it begins before it acts, then each step."""
    await to_stores(WriteAttempt(execution=execution), lambda records: (_apply_execution(records, execution), None))


@task(name="record the outcome", **WRITE)
async def finish_attempt(
    execution: RecoveryExecution, *, was: str | None, ticket: Ticket | None = None
) -> Ticket | None:
    """Record how an attempt ended. `was` is the state the service was found in, if known.

    A success resolves the error, closes its tickets, and records the service's change of state at the start that it
    runs by, in one transaction. A failure opens the ticket and returns it.
    """

    def assume(records: RecoveryRecords) -> tuple[RecoveryRecords, tuple[tuple[Ticket, ...], Ticket | None]]:
        records = _apply_execution(records, execution)
        return (
            (without_error(records, execution.error_id), ((), None)) if execution.success else (records, ((), ticket))
        )

    closed, opened = await to_stores(FinishAttempt(execution=execution, was=was, ticket=ticket), assume)
    await cancel_runs_of(closed, "recovered automatically")
    return opened


def _apply_execution(records: RecoveryRecords, execution: RecoveryExecution) -> RecoveryRecords:
    return with_execution(records, execution, datetime.now(UTC))


@task(name="open a ticket", **WRITE)
async def open_ticket(ticket: Ticket) -> Ticket:
    """Open a ticket, or the one of the same cause again with its earlier answers."""
    return await to_stores(OpenTicket(ticket=ticket), lambda records: (records, ticket))


@retry_read
@make_async
def read_ticket(ticket_id: str) -> Ticket:
    """Return a ticket with its answers so far.

    Raises:
        NotFoundError: There is none of this id.
    """
    return open_stores().tickets.get(ticket_id)


@retry_read
@make_async
def read_error(error_id: str) -> RecordedError:
    """Return a recorded error.

    Raises:
        NotFoundError: There is none of this id.
    """
    return open_stores().errors.get(error_id)


@task(name="let the ticket wait", **WRITE)
async def let_ticket_wait(ticket_id: str, flow_run_id: str | None, entry: TicketEntry | None = None) -> None:
    """Record which suspended run waits for the answer, None when none does any more, and a line of history."""
    await to_stores(LetTicketWait(ticket_id=ticket_id, flow_run_id=flow_run_id, entry=entry))


@task(name="record the answer", **WRITE)
async def record_answer(ticket: Ticket, choice: Choice, entry: TicketEntry) -> None:
    """Record a person's answer, and the ticket's state that follows from it."""
    await asyncio.to_thread(open_stores().tickets.answer, ticket, choice, entry)


async def cancel_runs_of(closed: Sequence[Ticket], why: str) -> None:
    """Cancel the runs that wait for an answer to tickets that are resolved."""
    for ticket in closed:
        if ticket.flow_run_id is not None:
            await cancel_run(ticket.flow_run_id, f"{ticket.ticket_id} is resolved: {why}")


@task(name="resolve errors of healthy services", **WRITE)
async def settle_well(environment: str, services: Sequence[str], unseen_since: datetime, why: str) -> list[str]:
    """Resolve the errors of services that were not seen again since a moment; return their ids.

    NO_SERVICE among them stands for what concerned all of them, as an engine that was away. Their tickets are closed,
    and the runs that wait for an answer are cancelled.
    """
    return await _settle(environment, services, unseen_since, lambda _: why)


@task(name="resolve errors of dependants", **WRITE)
async def settle_dependants(environment: str, well: Sequence[str], unseen_since: datetime) -> list[str]:
    """Resolve errors of healthy services whose root cause, a dependency, is healthy again; return their ids."""

    def why(error: RecordedError) -> str | None:
        causes = error.dependencies_down
        if not causes or not well_now.issuperset(causes):
            return None
        return f"it needs {', '.join(causes)}, and all of that is healthy again"

    well_now = frozenset(well)
    return await _settle(environment, well, unseen_since, why)


@task(name="resolve errors that were predicted", **WRITE)
async def settle_predicted(environment: str, expected: Collection[str]) -> list[str]:
    """Resolve predicted errors of services of which no open alert and no prediction warns; return their ids.

    `expected` are the other services, HOST among them where it is one.
    """
    why = "the alert that warned of it is over"

    def reason_of(error: RecordedError) -> str | None:
        foreseen = error.predictive and error.source == PREDICTION
        return why if foreseen and (error.service or HOST) not in expected else None

    return await _settle_where(environment, reason_of)


async def _settle(
    environment: str, services: Sequence[str], unseen_since: datetime, why: Callable[[RecordedError], str | None]
) -> list[str]:
    def reason_of(error: RecordedError) -> str | None:
        observed = error.source in OBSERVED_SOURCES and not error.predictive
        if (error.service or NO_SERVICE) not in services or not observed or error.last_seen > unseen_since:
            return None
        return why(error)

    return await _settle_where(environment, reason_of)


async def _settle_where(environment: str, why: Callable[[RecordedError], str | None]) -> list[str]:
    def settle(stores: Stores) -> list[str]:
        over = []
        for error in stores.errors.list_unresolved(environment):
            if (reason := why(error)) is not None:
                entry = TicketEntry(at=datetime.now(UTC), by="roas", what=reason)
                stores.errors.resolve(error.error_id, entry.at, reason)
                closed.extend(stores.tickets.resolve_for_error(error.error_id, entry))
                over.append(error.error_id)
        return over

    closed: list[Ticket] = []
    # While the stores are away it waits: the errors are resolved when they are back.
    settled = await from_stores(settle, lambda _: [])
    await cancel_runs_of(closed, "what it asks about is over")
    return settled


@retry_read
async def cut_off_recoveries(environment: str) -> list[RecoveryExecution]:
    """Return the attempts in an environment that never ended and whose runner has died."""

    def find(stores: Stores) -> list[RecoveryExecution]:
        since = datetime.now(UTC) - _RESUMABLE_WITHIN
        begun = stores.recoveries.find(environment=environment, since=since)
        begun = [execution for execution in begun if execution.ended_at is None and execution.attempt_id]
        return [execution for execution in begun if execution.runner and is_alive(execution.runner) is False]

    return await from_stores(find, lambda _: [])


@retry_read
async def read_attempt(attempt_id: str) -> RecoveryExecution:
    """Return an attempt as it is on record now.

    Raises:
        NotFoundError: There is none of this id.
    """
    attempts = await from_stores(
        lambda stores: stores.recoveries.find(attempt_id=attempt_id), lambda records: records.executions
    )
    for attempt in attempts:
        if attempt.attempt_id == attempt_id:
            return attempt
    raise NotFoundError(f"No recovery has the id {attempt_id!r};", advice="`roas tickets` shows what was tried.")


@task(name="mark the error resolved", **WRITE)
async def resolve_error(error_id: str, at: datetime, why: str) -> None:
    """Record what ended an error."""
    write = ResolveError(error_id=error_id, at=at, why=why)
    await to_stores(write, lambda records: (without_error(records, error_id), None))


@task(name="record the reason", **WRITE)
async def keep_reason(error_id: str, reason: str) -> None:
    """Record why an error leads neither to an attempt nor to a ticket."""
    await to_stores(KeepReason(error_id=error_id, reason=reason))


@task(name="link the evidence", **WRITE)
async def link_evidence(bundle_ids: Sequence[str], error_id: str) -> None:
    """Record that bundles taken later show an error as well."""
    await to_stores(LinkEvidence(bundle_ids=tuple(bundle_ids), error_id=error_id))


async def span_of_operation(environment: str, deployment_id: str | None) -> str | None:
    """The span of an operation, or of the environment's latest where none is named.

    None without traces, where it has no span, or where the stores do not answer within a second.
    """
    if traceparent() is None:
        return None

    def read() -> str | None:
        operations = open_stores().operations
        named = operations.find(deployment_id) if deployment_id else None
        of = [named] if named else operations.latest_recorded(environment, 1)
        return of[0].record.traceparent if of else None

    with suppress(StoreError, TimeoutError):
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            return await asyncio.to_thread(read)
    return None
