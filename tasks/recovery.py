"""Recovery: the evidence, the records, the one step that acts, and the proof that it helped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from prefect import task
from prefect.context import TaskRunContext

from adapters.processes import is_alive
from core.impact import by_experience
from core.pattern_library import SHIPPED_PATTERNS
from core.patterns import PatternSet
from models.environments import Environment
from models.errors_seen import Evidence, Impact, Pattern, RecordedError, Strategy
from models.evidence import EvidenceBundle
from models.health import HealthReport, ServiceHealth
from models.operations import OperationStatus, OperationType, StateChange
from models.recovery import Choice, RecoveryExecution, Ticket, TicketEntry
from models.sightings import Sighting
from tasks.actions import release_before
from tasks.asking import let_go
from tasks.doors import engine_of
from tasks.patience import LOOK, WRITE
from tasks.stores import open_stores

_OF_A_LOOK = frozenset({"watch", "collection", "event"})
_A_MOMENT = timedelta(seconds=1)
_STILL_WORTH_IT = timedelta(hours=1)
"""What was cut off longer ago is judged anew: the world has gone on."""


@task(name="read the patterns", **LOOK)
async def read_patterns() -> PatternSet:
    """The patterns of errors.db; the shipped ones are brought up to date first."""

    def read() -> PatternSet:
        return _patterns()

    return await asyncio.to_thread(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known before an error is judged; `deployed_seconds_ago` is None where no proven start is on record."""

    patterns: PatternSet
    deployed_seconds_ago: float | None


@task(name="read what is known", **LOOK)
async def read_what_is_known(environment: str, now: datetime) -> Known:
    """The patterns, and how many seconds ago the latest proven start ended: one task, since a service is down."""

    def read() -> Known:
        latest = open_stores().deployments.history(environment, OperationType.START, OperationStatus.SUCCESS, limit=1)
        ended = latest[0].ended_at if latest else None
        ago = None if ended is None or ended > now else (now - ended).total_seconds()
        return Known(patterns=_patterns(), deployed_seconds_ago=ago)

    return await asyncio.to_thread(read)


def _patterns() -> PatternSet:
    store = open_stores().errors
    known = store.patterns()
    own = {one.name for one in known if not one.shipped}
    shipped = {_as_shipped(one) for one in known if one.shipped}
    if shipped != {_as_shipped(one) for one in SHIPPED_PATTERNS if one.name not in own}:
        store.sync_patterns(SHIPPED_PATTERNS)
        known = store.patterns()
    # How often each one matched changes all the time, and has no part in matching.
    return _compiled(tuple(replace(one, match_count=0, last_matched=None) for one in known))


def _as_shipped(pattern: Pattern) -> Pattern:
    return replace(pattern, enabled=True, match_count=0, last_matched=None)


@lru_cache(maxsize=2)
def _compiled(patterns: tuple[Pattern, ...]) -> PatternSet:
    """To compile some hundred expressions takes a fifth of a second, in which a service would be down."""
    return PatternSet(patterns)


@task(name="was it stopped by a person", task_run_name="was {service} stopped by a person", **LOOK)
async def stopped_by_person(environment: Environment, service: str) -> bool:
    """True where our record or the engine's own shows that the service was stopped on request.

    `docker stop` and `docker compose stop` leave a stop event behind the container's end; a crash and a
    kill leave none. The engine keeps its last few hundred events only; our own stops are in the store.
    """

    def look_back() -> bool:
        return _was_stopped(environment, service, engine_of(environment).sightings(environment.project, service))

    return await asyncio.to_thread(look_back)


@task(name="record the error", **WRITE)
async def record_error(
    error: RecordedError,
    *,
    impact: Impact | None = None,
    bundles: Sequence[str] = (),
    taken: Sequence[EvidenceBundle] = (),
    health: HealthReport | None = None,
) -> RecordedError:
    """Write an error, or count it up where the same one is still open, with all that was found out about it.

    Who is hit by it, the evidence that shows it (`taken` is what is not kept yet), the health it was seen with, and
    in the record of the operation that failed of it its id: all of that, or nothing.
    """

    def put() -> RecordedError:
        with open_stores().together() as stores:
            kept = stores.errors.record(error)
            if error.verdict.pattern_name is not None:
                stores.errors.pattern_matched(error.verdict.pattern_name, error.last_seen)
            if impact is not None:
                usual = stores.errors.mended_after(error.environment, error.verdict.category)
                stores.errors.add_impact(kept.error_id, by_experience(impact, usual), error.last_seen)
            for bundle in taken:
                stores.errors.keep_evidence(bundle)
            if bundles:
                stores.errors.link_evidence(list(bundles), kept.error_id)
            if health is not None:
                stores.monitoring.record_health(health)
            if error.deployment_id is not None and stores.deployments.known(error.deployment_id) is not None:
                stores.deployments.note(error.deployment_id, {"error_id": kept.error_id})
        return kept

    return await asyncio.to_thread(put)


@task(name="is the failure recorded", **LOOK)
async def known_failure(deployment_id: str) -> bool:
    """Whether an operation's record names the error it failed of."""
    known = await asyncio.to_thread(open_stores().deployments.known, deployment_id)
    return known is not None and "error_id" in known.details


def _once_for_the_run(context: TaskRunContext, _parameters: dict[str, Any]) -> str | None:
    return f"{context.task_run.flow_run_id}:{context.task.task_key}"


@task(name="record the error", persist_result=True, cache_key_fn=_once_for_the_run)
async def record_error_of_the_run(
    error: RecordedError,
    *,
    impact: Impact | None = None,
    bundles: Sequence[str] = (),
    taken: Sequence[EvidenceBundle] = (),
    health: HealthReport | None = None,
) -> RecordedError:
    """The same for a run that may be suspended: begun again from the top, it finds the error as it was judged."""
    return await record_error.fn(error, impact=impact, bundles=bundles, taken=taken, health=health)


@task(name="read past recoveries", **LOOK)
async def past_recoveries(error_id: str, since: datetime) -> list[RecoveryExecution]:
    """What was ever tried at this error, and at anything else since then, oldest first."""

    return list(await asyncio.to_thread(_past, error_id, since))


def _past(error_id: str, since: datetime) -> tuple[RecoveryExecution, ...]:
    store = open_stores().errors
    others = [one for one in store.executions(since=since) if one.error_id != error_id]
    return tuple(sorted([*store.executions(error_id), *others], key=lambda one: one.started_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearing:
    """What bears on a plan beside the error itself: what was tried, what people wish, and what was deployed.

    `deployed_ago` is how long before the error the release came that runs now, None where there is none to go
    back to. `kept_down` are those of the services it needs that a person stopped or paused.
    """

    past: tuple[RecoveryExecution, ...]
    paused: bool
    stopped_by_person: bool = False
    deployed_ago: timedelta | None = None
    kept_down: tuple[str, ...] = ()


@task(name="look at what bears on the plan", **LOOK)
async def look_before_planning(
    error: RecordedError, environment: Environment | None, service: str | None, *, since: datetime, now: datetime
) -> Bearing:
    """All of it at once, since a service is down meanwhile; `since` is how far back other attempts count.

    Raises:
        EngineError: The engine did not answer, or refused.
    """

    def look() -> Bearing:
        past = _past(error.error_id, since)
        paused = bool(open_stores().errors.paused(error.environment, service, now))
        if environment is None or service is None:
            return Bearing(past=past, paused=paused)
        sightings = engine_of(environment).sightings(environment.project)
        # What an attempt of ours stops for a moment, nobody keeps down.
        ours = {one.service for one in past if one.environment == error.environment and one.ended_at is None}
        needed = [name for name in error.dependencies_down if name not in ours]
        return Bearing(
            past=past,
            paused=paused,
            stopped_by_person=_was_stopped(environment, service, _of(service, sightings)),
            deployed_ago=release_before(environment, sightings, error.first_seen)[1],
            kept_down=tuple(name for name in needed if _is_kept_down(environment, name, _of(name, sightings))),
        )

    return await asyncio.to_thread(look)


@task(name="record the attempt", **WRITE)
async def begin_attempt(execution: RecoveryExecution) -> None:
    """Write that an attempt begins, before anything is done; one that is taken up again is there already."""

    def put() -> None:
        store = open_stores().errors
        store.begin_execution(execution)
        store.write_attempt(execution)

    await asyncio.to_thread(put)


@task(name="record the step", **WRITE)
async def write_attempt(execution: RecoveryExecution) -> None:
    """Write how far an attempt has come."""
    await asyncio.to_thread(open_stores().errors.write_attempt, execution)


@task(name="record the outcome", **WRITE)
async def finish_attempt(
    execution: RecoveryExecution, *, was: str | None, ticket: Ticket | None = None
) -> Ticket | None:
    """Write how an attempt ended. `was` is the state the service was found in, where that is known.

    Where it helped, the error is resolved, its tickets are closed, and the service's change of state is noted at
    the start that it runs by: all of that, or nothing. A service that no recorded start runs has nowhere to
    note it. Where it failed and a person is asked next, the ticket is opened with it and given back.
    """

    def put() -> tuple[Sequence[Ticket], Ticket | None]:
        with open_stores().together() as stores:
            stores.errors.write_attempt(execution)
            if not execution.success:
                return (), stores.errors.open_ticket(ticket) if ticket else None
            ended = execution.ended_at or datetime.now(UTC)
            stores.errors.resolve(execution.error_id, ended, f"automatic: {execution.strategy}")
            entry = TicketEntry(at=ended, by="roas", what="recovered automatically")
            closed = stores.errors.close_tickets(execution.error_id, entry)
            home = stores.deployments.last_success(execution.environment, OperationType.START)
            # A rollback is an operation of its own, which has noted what it did.
            if home is None or execution.service is None or execution.strategy is Strategy.ROLL_BACK_RELEASE:
                return closed, None
            change = StateChange(
                deployment_id=home.deployment_id,
                service=execution.service,
                previous_state=was,
                new_state=str(ServiceHealth.HEALTHY),
                changed_at=ended,
                reason=f"recovered: {execution.strategy}",
                details={"error_id": execution.error_id, "attempt": execution.attempt_id},
            )
            stores.deployments.record_changes([change])
            return closed, None

    closed, opened = await asyncio.to_thread(put)
    await let_go_of(closed, "recovered automatically")
    return opened


@task(name="open a ticket", **WRITE)
async def open_ticket(ticket: Ticket) -> Ticket:
    """Ask a person; the ticket of the same cause is taken up again where there is one, with what was answered then."""
    return await asyncio.to_thread(open_stores().errors.open_ticket, ticket)


@task(name="read the ticket", **LOOK)
async def read_ticket(ticket_id: str) -> Ticket:
    """The ticket with what was answered so far.

    Raises:
        NotFoundError: There is none of this id.
    """
    return await asyncio.to_thread(open_stores().errors.ticket, ticket_id)


@task(name="read the error", **LOOK)
async def read_error(error_id: str) -> RecordedError:
    """An error as it is on record.

    Raises:
        NotFoundError: There is none of this id.
    """
    return await asyncio.to_thread(open_stores().errors.get, error_id)


@task(name="let the ticket wait", **WRITE)
async def let_ticket_wait(ticket_id: str, flow_run_id: str | None) -> None:
    """Write which suspended run an answer goes to; None where none waits any more."""
    await asyncio.to_thread(open_stores().errors.let_wait, ticket_id, flow_run_id)


@task(name="record the answer", **WRITE)
async def record_answer(ticket: Ticket, choice: Choice, entry: TicketEntry) -> None:
    """Keep what a person answered: by hand resolved is resolved, what is given up or skipped is known to somebody."""

    await asyncio.to_thread(open_stores().errors.answer, ticket, choice, entry)


async def let_go_of(closed: Sequence[Ticket], why: str) -> None:
    """End the runs that wait for an answer to tickets that are resolved."""
    for ticket in closed:
        if ticket.flow_run_id is not None:
            await let_go(ticket.flow_run_id, f"{ticket.ticket_id} is resolved: {why}")


@task(name="settle what is well again", **WRITE)
async def settle_well(environment: str, services: Sequence[str], unseen_since: datetime, why: str) -> list[str]:
    """Resolve what was recorded of services being down that was not seen since a moment; gives back the ids.

    Their tickets are closed, and the runs that wait for an answer end.
    """
    return await _settle(environment, services, unseen_since, lambda _: why)


@task(name="resolve what came of others", **WRITE)
async def settle_dependants(environment: str, well: Sequence[str], unseen_since: datetime) -> list[str]:
    """Resolve the errors of services that are well whose cause was others that are well now; gives back the ids."""

    def why(error: RecordedError) -> str | None:
        causes = error.dependencies_down
        if not causes or not well_now.issuperset(causes):
            return None
        return f"it needs {', '.join(causes)}, and all of that is well again"

    well_now = frozenset(well)
    return await _settle(environment, well, unseen_since, why)


async def _settle(
    environment: str, services: Sequence[str], unseen_since: datetime, why: Callable[[RecordedError], str | None]
) -> list[str]:
    def settle() -> list[str]:
        store = open_stores().errors
        over = [
            (error, reason)
            for error in store.open_errors(environment)
            if error.service in services
            and error.source in _OF_A_LOOK
            and not error.predictive
            and error.last_seen <= unseen_since
            and (reason := why(error)) is not None
        ]
        for error, reason in over:
            store.resolve(error.error_id, now, reason)
            closed.extend(store.close_tickets(error.error_id, TicketEntry(at=now, by="roas", what=reason)))
        return [error.error_id for error, _ in over]

    now = datetime.now(UTC)
    closed: list[Ticket] = []
    settled = await asyncio.to_thread(settle)
    await let_go_of(closed, "what it asks about is over")
    return settled


@task(name="look for recoveries that were cut off", **LOOK)
async def cut_off_recoveries(environment: str) -> list[RecoveryExecution]:
    """The attempts in an environment that never ended and whose runner is gone."""

    def find() -> list[RecoveryExecution]:
        since = datetime.now(UTC) - _STILL_WORTH_IT
        begun = open_stores().errors.executions(environment=environment, since=since)
        return [
            one
            for one in begun
            if one.ended_at is None and one.attempt_id and one.runner and is_alive(one.runner) is False
        ]

    return await asyncio.to_thread(find)


@task(name="mark the error resolved", **WRITE)
async def resolve_error(error_id: str, at: datetime, why: str) -> None:
    """Write what ended an error."""
    await asyncio.to_thread(open_stores().errors.resolve, error_id, at, why)


@task(name="link the evidence", **WRITE)
async def link_evidence(bundle_ids: Sequence[str], error_id: str) -> None:
    """Say that bundles taken later show an error as well."""
    await asyncio.to_thread(open_stores().errors.link_evidence, list(bundle_ids), error_id)


def with_surroundings(
    evidence: Evidence | None, down: Sequence[str], deployed_ago_seconds: float | None
) -> Evidence | None:
    """The evidence with the names of the dependencies that are down, and how fresh the deployment is."""
    if evidence is None:
        return None
    return replace(evidence, dependencies_down=tuple(down), deployed_seconds_ago=deployed_ago_seconds)


def _of(service: str, sightings: Sequence[Sighting]) -> list[Sighting]:
    return [seen for seen in sightings if seen.service == service]


def _is_kept_down(environment: Environment, service: str, mine: Sequence[Sighting]) -> bool:
    """Whether a person stopped or paused a service: what needs it cannot be helped by an action on it."""
    return any(seen.state == "paused" for seen in mine) or _was_stopped(environment, service, mine)


def _was_stopped(environment: Environment, service: str, mine: Sequence[Sighting]) -> bool:
    last = open_stores().deployments.last_changes(environment.name).get(service)
    for seen in mine:
        if seen.state != "exited" or seen.finished_at is None:
            continue
        if last is not None and last.details.get("on_request") and not _started_after(seen, last.changed_at):
            return True
        around = timedelta(seconds=30)
        with engine_of(environment).events(
            environment.project,
            # A stop before its last start was of an earlier life.
            max(seen.finished_at - around, seen.started_at or seen.finished_at - around),
            min(seen.finished_at + around, datetime.now(UTC)),
        ) as events:
            if not any(event.container_id == seen.container_id and event.action == "stop" for event in events):
                continue
        if engine_of(environment).remembers((seen.started_at or seen.finished_at) - _A_MOMENT, seen.finished_at):
            _keep_in_mind(environment, seen, seen.finished_at)
            return True
    return False


def _keep_in_mind(environment: Environment, seen: Sighting, at: datetime) -> None:
    """Note at the start that a service runs by that a person stopped it; the engine soon forgets it."""
    deployments = open_stores().deployments
    home = deployments.last_success(environment.name, OperationType.START)
    if home is None:
        return
    change = StateChange(
        deployment_id=home.deployment_id,
        service=seen.service,
        previous_state=None,
        new_state=str(ServiceHealth.STOPPED),
        changed_at=at,
        reason="a person stopped it",
        details={"on_request": True, "cause": "the engine's events"},
    )
    deployments.record_changes([change])


def _started_after(seen: Sighting, moment: datetime) -> bool:
    return seen.started_at is not None and seen.started_at > moment
