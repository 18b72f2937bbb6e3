"""What a recovery, or the end of an operation, writes to the stores, as values.

They are written now, or kept in a journal and written once the stores are back. Each can be repeated without writing
anything twice, since all that it writes has an id of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from adapters.host.processes import is_alive
from adapters.stores.row_writes import KeepRows
from adapters.stores.stores import Stores
from adapters.stores.transactions import Together
from adapters.stores.writes import Names, Write
from core.deployment.desired_state import should_run
from core.errors.impact import add_experience
from core.recovery.policy import OBSERVED_SOURCES
from core.storage.incidents import report_gap
from models.errors import Impact, RecordedError, Strategy
from models.evidence import EvidenceBundle
from models.health import HealthReport, ServiceHealth
from models.operations import OperationStatus, OperationType, Runner, StateChange
from models.operations.record import OperationRecord, read_record
from models.records import RecoveryRecords
from models.recovery import RecoveryExecution, Ticket, TicketEntry

_OF_A_START = frozenset({"validation", str(OperationType.START)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordError(Write):
    """An error, or one more of it where the same one is open, with all that was found out about it.

    Who is hit by it, the evidence that shows it (`taken` is not recorded yet), the health it was seen with, and
    in the record of the operation that failed of it its id.
    """

    error: RecordedError
    impact: Impact | None = None
    bundles: tuple[str, ...] = ()
    taken: tuple[EvidenceBundle, ...] = ()
    health: HealthReport | None = None
    kind: Literal["error"] = "error"

    def apply(self, stores: Stores, names: Names) -> RecordedError:
        """All of it, or nothing; the error as it is on record."""
        error = self.error
        with stores.together() as transaction:
            # A try before this one may have recorded it: its evidence came with it.
            tried = transaction.evidence.error_of(self.taken[0].bundle_id) if self.taken else None
            recorded_error = transaction.errors.record(error) if tried is None else transaction.errors.get(tried)
            if tried is None:
                self._add(transaction, recorded_error)
        if recorded_error.error_id != error.error_id:
            names.errors[error.error_id] = recorded_error.error_id
        return recorded_error

    def _add(self, stores: Together, recorded: RecordedError) -> None:
        error = self.error
        if error.verdict.pattern_name is not None:
            stores.patterns.count_match(error.verdict.pattern_name, error.last_seen)
        if self.impact is not None:
            usual = stores.recoveries.durations(error.environment, error.verdict.category)
            stores.errors.add_impact(recorded.error_id, add_experience(self.impact, usual), error.last_seen)
        for bundle in self.taken:
            stores.evidence.keep(bundle)
        if self.bundles:
            stores.evidence.link(list(self.bundles), recorded.error_id)
        if self.health is not None:
            stores.health.record(self.health)
        if error.deployment_id is not None and stores.operations.find(error.deployment_id) is not None:
            stores.operations.note(error.deployment_id, OperationRecord(error_id=recorded.error_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class _AttemptWrite(Write):
    execution: RecoveryExecution

    def execution_in_store(self, names: Names) -> RecoveryExecution:
        """The attempt under the error's id in the store."""
        return replace(self.execution, error_id=names.error(self.execution.error_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAttempt(_AttemptWrite):
    """How far an attempt has come: first that it begins, before anything is done."""

    # A journal that an earlier version wrote may tell them apart.
    kind: Literal["step", "begin"] = "step"

    def apply(self, stores: Stores, names: Names) -> None:
        """By the attempt's own id."""
        stores.recoveries.record(self.execution_in_store(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishAttempt(_AttemptWrite):
    """How an attempt ended. `was` is the state the service was found in, where that is known.

    Where it helped, the error is resolved, its tickets are closed, and the service's change of state is noted at
    the start that it runs by. A service that no recorded start runs has nowhere to note it. Where it failed and a
    person is asked next, the ticket is opened with it.
    """

    was: str | None = None
    ticket: Ticket | None = None
    kind: Literal["finish"] = "finish"

    def apply(self, stores: Stores, names: Names) -> tuple[tuple[Ticket, ...], Ticket | None]:
        """All of it, or nothing; the tickets that were closed, and the one that was opened."""
        execution = self.execution_in_store(names)
        with stores.together() as transaction:
            transaction.recoveries.record(execution)
            if not execution.success:
                return (), None if self.ticket is None else _open_ticket(transaction, self.ticket, names)
            ended = execution.ended_at or datetime.now(UTC)
            transaction.errors.resolve(execution.error_id, ended, f"automatic: {execution.strategy}")
            entry = TicketEntry(at=ended, by="roas", what="recovered automatically")
            closed = tuple(transaction.tickets.resolve_for_error(execution.error_id, entry))
            home = transaction.operations.last_success(execution.environment, OperationType.START)
            # A rollback is an operation of its own, which has noted what it did.
            if home is not None and execution.service and execution.strategy is not Strategy.ROLL_BACK_RELEASE:
                change = StateChange(
                    deployment_id=home.deployment_id,
                    service=execution.service,
                    previous_state=self.was,
                    new_state=str(ServiceHealth.HEALTHY),
                    changed_at=ended,
                    reason=f"recovered: {execution.strategy}",
                    details={"error_id": execution.error_id, "attempt": execution.attempt_id},
                )
                transaction.progress.record_changes([change])
            return closed, None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTicket(Write):
    """A question to a person; the ticket of the same cause is taken up again where there is one."""

    ticket: Ticket
    kind: Literal["ticket"] = "ticket"

    def apply(self, stores: Stores, names: Names) -> Ticket:
        """The ticket as it is on record."""
        return _open_ticket(stores, self.ticket, names)


def _open_ticket(stores: Stores | Together, ticket: Ticket, names: Names) -> Ticket:
    opened = stores.tickets.open(replace(ticket, error_id=names.error(ticket.error_id)))
    if opened.ticket_id != ticket.ticket_id:
        names.tickets[ticket.ticket_id] = opened.ticket_id
    return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class LetTicketWait(Write):
    """Which suspended run an answer goes to, None where none waits any more; a line of history beside it."""

    ticket_id: str
    flow_run_id: str | None
    entry: TicketEntry | None = None
    kind: Literal["ticket waits"] = "ticket waits"

    def apply(self, stores: Stores, names: Names) -> None:
        """By the ticket's id in the store."""
        ticket_id = names.tickets.get(self.ticket_id, self.ticket_id)
        stores.tickets.set_waiting_run(ticket_id, self.flow_run_id, self.entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveError(Write):
    """What ended an error."""

    error_id: str
    at: datetime
    why: str
    kind: Literal["resolve"] = "resolve"

    def apply(self, stores: Stores, names: Names) -> None:
        """By the error's id in the store."""
        stores.errors.resolve(names.error(self.error_id), self.at, self.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepReason(Write):
    """Why neither an attempt was made at an error nor a person asked."""

    error_id: str
    reason: str
    kind: Literal["reason"] = "reason"

    def apply(self, stores: Stores, names: Names) -> None:
        """In the error's evidence."""
        stores.errors.note_ignored(names.error(self.error_id), self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepEvidence(Write):
    """Bundles of evidence, and the error that they show where it is known."""

    bundles: tuple[EvidenceBundle, ...]
    kind: Literal["evidence"] = "evidence"

    def apply(self, stores: Stores, names: Names) -> None:
        """Those that are there already stay as they are."""
        for bundle in self.bundles:
            stores.evidence.keep(bundle)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvidence(Write):
    """That bundles taken later show an error as well."""

    bundle_ids: tuple[str, ...]
    error_id: str
    kind: Literal["link"] = "link"

    def apply(self, stores: Stores, names: Names) -> None:
        """By the error's id in the store."""
        stores.evidence.link(list(self.bundle_ids), names.error(self.error_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteStop(Write):
    """That a person stopped a service, as the engine's events show; the engine soon forgets it."""

    environment: str
    service: str
    at: datetime
    kind: Literal["stop"] = "stop"

    def apply(self, stores: Stores, names: Names) -> None:
        """At the start that the service runs by; without one there is nowhere to note it."""
        home = stores.operations.last_success(self.environment, OperationType.START)
        if home is not None:
            stores.progress.record_changes([self.change(home.deployment_id)])

    def change(self, deployment_id: str) -> StateChange:
        """As it is noted."""
        return StateChange(
            deployment_id=deployment_id,
            service=self.service,
            previous_state=None,
            new_state=str(ServiceHealth.STOPPED),
            changed_at=self.at,
            reason="a person stopped it",
            details={"on_request": True, "cause": "the engine's events"},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLease(Write):
    """That this owner holds an environment no longer."""

    environment: str
    owner: str
    runner: Runner
    kind: Literal["release lease"] = "release lease"

    def apply(self, stores: Stores, names: Names) -> None:
        """Nothing happens where another holds it by now."""
        stores.leases.release(self.environment, self.owner, runner=self.runner)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishOperation(Write):
    """How an operation ended; one that had already ended stays as it is.

    A start that was proven settles an environment: what its earlier starts failed of and what was observed before it
    is resolved with it, errors and tickets, or nothing is, and a recovery whose runner died before is ended, not
    continued. One of some `services` settles what concerned these.
    """

    deployment_id: str
    status: OperationStatus
    ended_at: datetime
    details: Annotated[OperationRecord, BeforeValidator(read_record)]
    settles: str | None = None
    services: tuple[str, ...] | None = None
    kind: Literal["finish operation"] = "finish operation"

    @property
    def why(self) -> str:
        """Why the errors are resolved that it settles."""
        return f"start {self.deployment_id} was proven"

    def _proves(self, service: str | None) -> bool:
        return self.services is None or service in self.services

    def apply(self, stores: Stores, names: Names) -> tuple[tuple[str, ...], tuple[Ticket, ...]]:
        """All of it, or nothing; the ids of the errors and the tickets that were resolved."""
        if self.settles is None:
            stores.operations.finish(self.deployment_id, self.status, self.ended_at, self.details)
            return (), ()
        with stores.together() as transaction:
            if not transaction.operations.finish(self.deployment_id, self.status, self.ended_at, self.details):
                return (), ()
            began = transaction.operations.get(self.deployment_id).started_at
            errors = transaction.errors.list_unresolved(self.settles)
            answered = [
                error.error_id for error in errors if self._proves(error.service) and _is_answered(error, began)
            ]
            closed: list[Ticket] = []
            for error_id in answered:
                transaction.errors.resolve(error_id, self.ended_at, self.why)
                entry = TicketEntry(at=self.ended_at, by="roas", what=self.why)
                closed.extend(transaction.tickets.resolve_for_error(error_id, entry))
            for cut_off in _cut_off(transaction, self.settles):
                if not self._proves(cut_off.service):
                    continue
                final_status = f"interrupted: its runner is gone; {self.why} since"
                transaction.recoveries.record(
                    replace(cut_off, ended_at=self.ended_at, success=False, final_status=final_status)
                )
            return tuple(answered), tuple(closed)


def _is_answered(error: RecordedError, began: datetime) -> bool:
    """Whether a proven start shows that an error is over. What was observed during it may be of what it started."""
    observed_before = error.source in OBSERVED_SOURCES and not error.predictive and error.last_seen < began
    return error.source in _OF_A_START or observed_before


def _cut_off(stores: Together, environment: str) -> list[RecoveryExecution]:
    begun = [execution for execution in stores.recoveries.find(environment=environment) if execution.ended_at is None]
    return [execution for execution in begun if execution.runner is not None and is_alive(execution.runner) is False]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGap(Write):
    """That the journal was full, so that the record of recoveries has a gap while the stores were away."""

    since: datetime
    folder: str
    kind: Literal["gap"] = "gap"

    def apply(self, stores: Stores, names: Names) -> None:
        """As an error of this system itself, with a ticket."""
        error, ticket = report_gap(self.folder, self.since, datetime.now(UTC))
        if not stores.errors.knows(error.error_id):
            stores.errors.record(error)
            stores.tickets.open(ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Write):
    """A heartbeat, whose silence is an alert. An old one says nothing."""

    kept: ClassVar[bool] = False
    name: str
    at: datetime

    def apply(self, stores: Stores, names: Names) -> None:
        """The latest one stays."""
        stores.heartbeats.beat(self.name, self.at)


_AnyWrite = Annotated[
    RecordError
    | WriteAttempt
    | FinishAttempt
    | OpenTicket
    | LetTicketWait
    | ResolveError
    | KeepReason
    | KeepEvidence
    | LinkEvidence
    | NoteStop
    | ReleaseLease
    | FinishOperation
    | RecordGap
    | KeepRows,
    Field(discriminator="kind"),
]
_writes: TypeAdapter[Write] = TypeAdapter(_AnyWrite, config=ConfigDict(ser_json_inf_nan="constants"))
_CHECKSUM = b'{"crc32":'


def to_line(write: Write) -> bytes:
    """A write as a line of a journal, with a checksum: a changed digit would still be JSON."""
    # Not by `dump_json`, whose own options take longer than a short write.
    line = _writes.serializer.to_json(write)
    return b"%s%d,%s" % (_CHECKSUM, zlib.crc32(line), line[1:])


def from_line(line: bytes) -> Write:
    """The write of a line. Those of earlier versions have no checksum.

    Raises:
        ValueError: It is none, or was changed after it had been written.
    """
    if line.startswith(_CHECKSUM):
        checksum, _, rest = line.removeprefix(_CHECKSUM).partition(b",")
        line = b"{" + rest
        if zlib.crc32(line) != int(checksum):
            raise ValueError("its checksum is another one")
    return _writes.validate_json(line)


def read_for_plan(
    stores: Stores, records: RecoveryRecords, error_id: str, since: datetime, now: datetime
) -> RecoveryRecords:
    """Read before each attempt: earlier attempts at this error and since then, pauses, releases, stops.

    Raises:
        StoreError: A store cannot be read.
    """
    with stores.read_one_moment() as moment:
        changing = _changing_facts(moment, records.environment, now)
        other_executions = [
            execution for execution in moment.recoveries.find(since=since) if execution.error_id != error_id
        ]
        tried = sorted(
            [*moment.recoveries.find(error_id), *other_executions], key=lambda execution: execution.started_at
        )
    return replace(records, executions=tuple(tried), **changing)


def read_stops(stores: Stores, environment: str, since: datetime) -> RecoveryRecords:
    """Read what shows whether a person stopped something: changes of state, attempts since then, operations.

    Raises:
        StoreError: A store cannot be read.
    """
    return RecoveryRecords(
        environment=environment,
        last_changes=stores.progress.last_changes(environment),
        executions=tuple(stores.recoveries.find(environment=environment, since=since)),
        **_wish(stores, environment),
    )


def read_records(stores: Stores, environment: str, since: datetime, now: datetime) -> RecoveryRecords:
    """All that a recovery may need.

    Raises:
        StoreError: A store cannot be read.
    """
    with stores.read_one_moment() as moment:
        # Those of one store after each other: each change of the store is a way to the server and back.
        starts = moment.operations.history(environment, OperationType.START, OperationStatus.SUCCESS, limit=1)
        lease = moment.leases.find_holder(environment, now)
        host_id = moment.hosts.owner(environment)
        changing = _changing_facts(moment, environment, now)
        return RecoveryRecords(
            **changing | {"open_errors": tuple(moment.errors.list_unresolved(environment))},
            environment=environment,
            executions=tuple(moment.recoveries.find(since=since)),
            lease=lease,
            started_at=starts[0].ended_at if starts else None,
            patterns=tuple(moment.patterns.all()),
            host_id=host_id,
        )


def _changing_facts(stores: Stores | Together, environment: str, now: datetime) -> dict[str, Any]:
    return {
        "releases": tuple(stores.releases.latest(environment)),
        **_wish(stores, environment),
        "last_changes": stores.progress.last_changes(environment),
        "data_steps": tuple(stores.progress.data_steps(environment)),
        "pauses": tuple(stores.pauses.active(now)),
    }


def _wish(stores: Stores | Together, environment: str) -> dict[str, Any]:
    """Whether an operation shows what is wanted of an environment, and without one what was seen to fail in it."""
    operations = stores.operations.latest_recorded(environment)
    return {
        "operated": bool(operations),
        "meant_to_run": should_run(operations),
        "open_errors": () if operations else tuple(stores.errors.list_unresolved(environment)),
    }
