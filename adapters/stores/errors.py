"""errors.db: patterns, recorded errors, their impact, what was tried, and what people are asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.audit import actor_columns, actor_of, append, audit_row, row_as_recorded
from adapters.stores.database import Transacting
from adapters.stores.sql import insert, insert_unless_there, table, upsert
from models.audit import SYSTEM, Actor
from models.errors import (
    SYMPTOMS,
    BusinessImpact,
    Category,
    Impact,
    ImpactType,
    Pattern,
    RecordedError,
    Severity,
    Strategy,
    Verdict,
)
from models.evidence import EvidenceBundle, EvidenceOccasion
from models.failures import NotFoundError
from models.notifications import ReportedError, SentNotifications
from models.operations import Runner
from models.records import Pause
from models.recovery import Choice, PlannedStep, RecoveryExecution, Step, Ticket, TicketEntry, TicketState
from models.tables.errors import (
    DeploymentError,
    ErrorImpact,
    ErrorPattern,
    EvidenceRow,
    RecoveryControl,
    RecoveryExecutionRow,
    TicketHistory,
    TicketRow,
)

_patterns = table(ErrorPattern)
_errors = table(DeploymentError)
_impacts = table(ErrorImpact)
_executions = table(RecoveryExecutionRow)
_tickets = table(TicketRow)
_history = table(TicketHistory)
_controls = table(RecoveryControl)
_evidence = table(EvidenceRow)
_bundles = TypeAdapter(EvidenceBundle)
_steps = TypeAdapter(tuple[Step, ...])
_planned = TypeAdapter(tuple[PlannedStep, ...])
_ALL = ""

_PARTS = ("containers", "logs", "probes", "events", "host", "missing")
_BUNDLES_OF_AN_ERROR = 12
"""A cause that comes back every minute keeps its first evidence and the latest; the rest would fill the disk."""


_JUDGED = (
    *("category", "severity", "strategy", "confidence", "pattern_name", "reason", "span", "template"),
    "fingerprint",
)


class Errors:
    """Failures and what was done about them. Every method raises StoreError where the store fails."""

    def __init__(self, database: Transacting) -> None:
        """Speak to one database."""
        self._database = database

    def sync_patterns(self, patterns: Sequence[Pattern]) -> None:
        """Bring the shipped patterns up to date.

        A person's own patterns stay, also one that has the name of a shipped one, and so does what a
        person switched off. A shipped pattern that is not shipped any more goes.
        """
        names = [one.name for one in patterns]
        with self._database.write() as connection:
            own = set(connection.scalars(sa.select(_patterns.c.pattern_name).where(_patterns.c.shipped.is_not(True))))
            connection.execute(
                sa.delete(_patterns).where(_patterns.c.shipped.is_(True), _patterns.c.pattern_name.not_in(names))
            )
            rows = [_from_pattern(one, shipped=True) for one in patterns if one.name not in own]
            upsert(connection, ErrorPattern, rows, keys=["pattern_name"], keep=["enabled"])

    def patterns(self) -> list[Pattern]:
        """Every pattern, the most urgent (highest priority) first."""
        query = sa.select(_patterns).order_by(_patterns.c.priority.desc(), _patterns.c.pattern_name)
        with self._database.read() as connection:
            return [_to_pattern(row) for row in connection.execute(query)]

    def put_pattern(self, pattern: Pattern) -> None:
        """Keep a pattern as given, whether it is new or known; its matches so far stay."""
        row = _from_pattern(pattern, shipped=pattern.shipped)
        with self._database.write() as connection:
            upsert(connection, ErrorPattern, row, keys=["pattern_name"])

    def remove_pattern(self, name: str) -> bool:
        """Forget a person's own pattern; False where there is none of this name."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.delete(_patterns).where(_patterns.c.pattern_name == name, _patterns.c.shipped.is_not(True))
            )
            return done.rowcount == 1

    def pattern_matched(self, name: str, at: datetime) -> None:
        """Count a match."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_patterns)
                .where(_patterns.c.pattern_name == name)
                .values(match_count=sa.func.coalesce(_patterns.c.match_count, 0) + 1, last_matched=at)
            )

    def record(self, error: RecordedError) -> RecordedError:
        """Record a failure and give back what is on record.

        The same cause (environment, service, category, template or pattern) while it is open is the same
        error: its count and last_seen grow, and a predicted failure that came true is predictive no more.
        Recording the same error_id again changes nothing.
        """
        fingerprint = _fingerprint(error)
        with self._database.write() as connection:
            known = connection.execute(sa.select(_errors).where(_errors.c.error_id == error.error_id)).one_or_none()
            if known is not None:
                return _to_error(known)
            same_cause = sa.and_(_errors.c.fingerprint == fingerprint, _errors.c.resolved_at.is_(None))
            done = connection.execute(
                sa.update(_errors)
                .where(same_cause)
                .values(
                    count=_errors.c.count + error.count,
                    last_seen=sa.case(
                        (_errors.c.last_seen > error.last_seen, _errors.c.last_seen), else_=error.last_seen
                    ),
                    predictive=sa.and_(_errors.c.predictive, sa.literal(error.predictive)),
                )
            )
            if done.rowcount == 0:
                insert(connection, DeploymentError, _from_error(error, fingerprint))
            return _to_error(connection.execute(sa.select(_errors).where(same_cause)).one())

    def get(self, error_id: str) -> RecordedError:
        """The error of this id.

        Raises:
            NotFoundError: There is none.
        """
        with self._database.read() as connection:
            found = connection.execute(sa.select(_errors).where(_errors.c.error_id == error_id)).one_or_none()
        if found is None:
            raise NotFoundError(f"No error has the id {error_id!r};", advice="`roas status` lists the open ones.")
        return _to_error(found)

    def knows(self, error_id: str) -> bool:
        """Whether an error of this id is on record."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_errors.c.id).where(_errors.c.error_id == error_id)) is not None

    def environments(self) -> list[str]:
        """Every environment that had an error."""
        with self._database.read() as connection:
            return list(connection.scalars(sa.select(_errors.c.environment).distinct()))

    def open_errors(self, environment: str | None = None) -> list[RecordedError]:
        """Errors that are not resolved, the latest seen first."""
        query = sa.select(_errors).where(_errors.c.resolved_at.is_(None))
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            latest = query.order_by(_errors.c.last_seen.desc(), _errors.c.id.desc())
            return [_to_error(row) for row in connection.execute(latest)]

    def unnamed(self, environment: str | None = None, limit: int = 5_000) -> list[RecordedError]:
        """Errors whose cause nobody has named, resolved or not, the latest seen first."""
        query = sa.select(_errors).where(_errors.c.category == Category.UNKNOWN.value)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            latest = query.order_by(_errors.c.last_seen.desc(), _errors.c.id.desc()).limit(limit)
            return [_to_error(row) for row in connection.execute(latest)]

    def name_cause(self, error_id: str, verdict: Verdict) -> bool:
        """Judge an open error anew, with its ticket; False where it is closed, or named meanwhile.

        Where the same cause is already open under its new name, this error stays as it was.
        """
        unnamed = sa.and_(
            _errors.c.error_id == error_id,
            _errors.c.category == Category.UNKNOWN.value,
            _errors.c.resolved_at.is_(None),
        )
        with self._database.write() as connection:
            known = connection.execute(sa.select(_errors).where(unnamed)).one_or_none()
            if known is None:
                return False
            error = replace(_to_error(known), verdict=verdict)
            judged = _from_error(error, _fingerprint(error))
            same_cause = sa.and_(_errors.c.fingerprint == judged["fingerprint"], _errors.c.resolved_at.is_(None))
            if connection.execute(sa.select(_errors.c.id).where(same_cause)).first() is not None:
                return False
            connection.execute(sa.update(_errors).where(unnamed).values({name: judged[name] for name in _JUDGED}))
            connection.execute(
                sa.update(_tickets)
                .where(_tickets.c.fingerprint == known.fingerprint)
                .values(fingerprint=judged["fingerprint"])
            )
            return True

    def list(self, environment: str | None = None, limit: int = 100) -> list[RecordedError]:
        """Errors, resolved or not, the latest seen first."""
        query = sa.select(_errors).order_by(_errors.c.last_seen.desc(), _errors.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            return [_to_error(row) for row in connection.execute(query)]

    def resolve(self, error_id: str, at: datetime, resolution: str) -> bool:
        """Resolve an error; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            return _resolve(connection, error_id, at, resolution)

    def of_deployment(self, deployment_id: str, *more: str) -> Sequence[RecordedError]:
        """The errors that were first seen in an operation, and those of these ids, the latest seen first."""
        its = sa.or_(_errors.c.deployment_id == deployment_id, _errors.c.error_id.in_(more))
        query = sa.select(_errors).where(its).order_by(_errors.c.last_seen.desc(), _errors.c.id.desc())
        with self._database.read() as connection:
            return [_to_error(row) for row in connection.execute(query)]

    def causes(self, environment: str, resolved_since: datetime) -> Sequence[ReportedError]:
        """Every error that is open or was resolved since then, with what people were told and asked about it."""
        query = (
            sa.select(_errors)
            .where(
                _errors.c.environment == environment,
                sa.or_(_errors.c.resolved_at.is_(None), _errors.c.resolved_at >= resolved_since),
            )
            .order_by(_errors.c.first_seen, _errors.c.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        tickets = {one.error_id: one for one in self.tickets(environment=environment)} if rows else {}
        tried = self.executions(environment=environment, since=rows[0].first_seen) if rows else ()
        return [
            ReportedError(
                error=_to_error(row),
                reported=SentNotifications(times=row.notices or 0, last_at=row.notified_at, end_at=row.notified_end),
                resolution=row.resolution or "",
                ticket=tickets.get(row.error_id),
                executions=[one for one in tried if one.error_id == row.error_id],
            )
            for row in rows
        ]

    def tell(self, error_id: str, before: SentNotifications, now: SentNotifications) -> bool:
        """Write what people are told of an error; False where somebody else has told them since `before`."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_errors)
                .where(
                    _errors.c.error_id == error_id,
                    sa.func.coalesce(_errors.c.notices, 0) == before.times,
                    _errors.c.notified_end.is_(None) if before.end_at is None else sa.true(),
                )
                .values(notices=now.times, notified_at=now.last_at, notified_end=now.end_at)
            )
            return done.rowcount == 1

    def add_impact(self, error_id: str, impact: Impact, at: datetime) -> None:
        """Record who is hit by an error.

        Raises:
            StoreConstraintError: No error has this id.
        """
        values = {
            "error_id": error_id,
            "impact_type": impact.impact_type.value,
            "affected_services": list(impact.affected_services),
            "estimated_recovery_time": impact.estimated_recovery_seconds,
            "business_impact": impact.business_impact.value,
            "created_at": at,
        }
        with self._database.write() as connection:
            insert(connection, ErrorImpact, values)

    def impacts(self, error_id: str) -> Sequence[Impact]:
        """Who is hit by an error, as judged over time."""
        query = sa.select(_impacts).where(_impacts.c.error_id == error_id).order_by(_impacts.c.id)
        with self._database.read() as connection:
            return [
                Impact(
                    impact_type=ImpactType(row.impact_type),
                    affected_services=tuple(row.affected_services or ()),
                    estimated_recovery_seconds=row.estimated_recovery_time or 0,
                    business_impact=BusinessImpact(row.business_impact or BusinessImpact.LOW),
                )
                for row in connection.execute(query)
            ]

    def begin_execution(self, execution: RecoveryExecution) -> int:
        """Record that a recovery begins; the number returned is for finishing it. One attempt begins once.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            same = sa.select(_executions.c.id).where(_executions.c.attempt_id == execution.attempt_id)
            if execution.attempt_id is not None and (known := connection.scalar(same)) is not None:
                return int(known)
            done = connection.execute(sa.insert(_executions).values(**_from_execution(execution)))
            key = done.inserted_primary_key
            if key is None:
                raise RuntimeError("an insert gave no key")
            return int(key[0])

    def finish_execution(self, execution_id: int, execution: RecoveryExecution) -> bool:
        """Record how a recovery went; False where no recovery has this number."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions).where(_executions.c.id == execution_id).values(**_from_execution(execution))
            )
            return done.rowcount == 1

    def write_attempt(self, execution: RecoveryExecution) -> bool:
        """Write how an attempt stands, by its own id; False where it has not begun."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions)
                .where(_executions.c.attempt_id == execution.attempt_id)
                .values(**_from_execution(execution))
            )
            return done.rowcount == 1

    def end_executions(self, begun_before: datetime, now: datetime) -> int:
        """End the recoveries that began before this and never ended: as failed, interrupted. Tells how many."""
        with self._database.write() as connection:
            done = connection.execute(
                sa.update(_executions)
                .where(_executions.c.execution_end.is_(None), _executions.c.execution_start < begun_before)
                .values(
                    execution_end=now,
                    success=False,
                    final_status="interrupted: its runner is gone",
                    manual_intervention_required=True,
                )
            )
            return done.rowcount

    def executions(
        self,
        error_id: str | None = None,
        environment: str | None = None,
        service: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[RecoveryExecution]:
        """Recoveries that were tried, oldest first."""
        query = sa.select(_executions, _errors.c.environment, _errors.c.service_name).join(
            _errors, _errors.c.error_id == _executions.c.error_id
        )
        if error_id is not None:
            query = query.where(_executions.c.error_id == error_id)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        if service is not None:
            query = query.where(_errors.c.service_name == service)
        if since is not None:
            query = query.where(_executions.c.execution_start >= since)
        with self._database.read() as connection:
            ordered = query.order_by(_executions.c.execution_start, _executions.c.id)
            return [_to_execution(row) for row in connection.execute(ordered)]

    def mended_after(self, environment: str, category: Category, limit: int = 20) -> Sequence[float]:
        """How many seconds the latest recoveries of a category took, from the first sight to the proof."""
        query = (
            sa.select(_executions.c.detected_at, _executions.c.verified_at)
            .join(_errors, _errors.c.error_id == _executions.c.error_id)
            .where(_errors.c.environment == environment, _errors.c.category == category.value)
            .where(_executions.c.detected_at.is_not(None), _executions.c.verified_at.is_not(None))
            .order_by(_executions.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.verified_at - row.detected_at).total_seconds() for row in connection.execute(query)]

    def open_ticket(self, ticket: Ticket) -> Ticket:
        """Ask a person, once for one cause: what is on record is given back.

        A ticket of the same cause that is still open gets what is new in this one; a resolved one is opened
        again. That the same error is seen once more is no news: its count tells it. While a ticket is open, a
        cause of the same service and category is taken for the same one in other words, and what only tells how
        the service fails (`SYMPTOMS`) for the same one as what tells why.

        Raises:
            StoreConstraintError: No error has the ticket's error id.
        """
        with self._database.write(durable=True) as connection:
            fingerprint = connection.scalar(
                sa.select(_errors.c.fingerprint).where(_errors.c.error_id == ticket.error_id)
            )
            newest = sa.select(_tickets).order_by(_tickets.c.opened_at.desc(), _tickets.c.id.desc()).limit(1)
            known = connection.execute(newest.where(_tickets.c.fingerprint == fingerprint)).one_or_none()
            if known is None or known.state == TicketState.RESOLVED:
                in_other_words = newest.where(
                    _tickets.c.state != TicketState.RESOLVED.value, _tickets.c.error_id.in_(_alike(ticket.error_id))
                )
                known = connection.execute(in_other_words).one_or_none() or known
            if known is None:
                insert(connection, TicketRow, _from_ticket(ticket) | {"fingerprint": fingerprint or ""})
                entries = ticket.history
                ticket_id = ticket.ticket_id
            else:
                ticket_id = known.ticket_id
                _append_to_ticket(connection, known, ticket)
                entries = ticket.history
                if known.state == TicketState.RESOLVED:
                    again = "came back: opened again"
                    entries = (*entries, TicketEntry(at=ticket.opened_at, by="roas", what=again))
                elif known.error_id != ticket.error_id:
                    entries = (
                        *entries,
                        TicketEntry(at=ticket.opened_at, by="roas", what=f"seen again: {ticket.title}"),
                    )
            if entries or known is None:
                _add_history(connection, ticket_id, entries)
            return _ticket(connection, ticket_id)

    def move_ticket(self, ticket_id: str, from_state: TicketState, to_state: TicketState, entry: TicketEntry) -> bool:
        """Move a ticket on, with a line in its history; False where it was not in `from_state`."""
        resolved_at = entry.at if to_state is TicketState.RESOLVED else None
        with self._database.write(durable=True) as connection:
            done = connection.execute(
                sa.update(_tickets)
                .where(_tickets.c.ticket_id == ticket_id, _tickets.c.state == from_state.value)
                .values(state=to_state.value, resolved_at=resolved_at)
            )
            if done.rowcount == 1:
                _add_history(connection, ticket_id, [entry])
            return done.rowcount == 1

    def close_tickets(self, error_id: str, entry: TicketEntry) -> Sequence[Ticket]:
        """Resolve what was asked about an error, with a line in each ticket's history; the tickets as they were."""
        with self._database.write(durable=True) as connection:
            mine = sa.and_(_tickets.c.error_id == error_id, _tickets.c.state != TicketState.RESOLVED.value)
            names = connection.scalars(sa.select(_tickets.c.ticket_id).where(mine)).all()
            closed = [_ticket(connection, ticket_id) for ticket_id in names]
            for ticket_id in names:
                connection.execute(
                    sa.update(_tickets)
                    .where(_tickets.c.ticket_id == ticket_id)
                    .values(state=TicketState.RESOLVED.value, resolved_at=entry.at)
                )
                _add_history(connection, ticket_id, [entry])
            return closed

    def ticket_of_cause(self, error_id: str) -> Ticket | None:
        """The ticket about the cause of an error, open or not; None where nobody was ever asked."""
        same_cause = (
            sa.select(_tickets.c.ticket_id)
            .join(_errors, _errors.c.fingerprint == _tickets.c.fingerprint)
            .where(_errors.c.error_id == error_id)
            .order_by(_tickets.c.opened_at.desc(), _tickets.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            known = connection.scalar(same_cause)
            return None if known is None else _ticket(connection, known)

    def let_wait(self, ticket_id: str, flow_run_id: str | None) -> None:
        """Write which suspended run a ticket's answer goes to; None where none waits any more."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(_tickets).where(_tickets.c.ticket_id == ticket_id).values(flow_run_id=flow_run_id)
            )

    def answer(self, ticket: Ticket, choice: Choice, entry: TicketEntry) -> None:
        """Keep what a person answered to a ticket, with a line in its history.

        What is resolved by hand is resolved, its error too; what is skipped or given up is known to somebody.
        """
        states = {
            Choice.RESOLVED: TicketState.RESOLVED,
            Choice.SKIP: TicketState.ACKNOWLEDGED,
            Choice.GIVE_UP: TicketState.ACKNOWLEDGED,
        }
        to_state = states.get(choice, TicketState.OPEN)
        with self._database.write(durable=True) as connection:
            connection.execute(
                sa.update(_tickets)
                .where(_tickets.c.ticket_id == ticket.ticket_id)
                .values(state=to_state.value, resolved_at=entry.at if choice is Choice.RESOLVED else None)
            )
            _add_history(connection, ticket.ticket_id, [entry])
            if choice is Choice.RESOLVED:
                for error_id in (ticket.error_id, *connection.scalars(_alike(ticket.error_id)).all()):
                    _resolve(connection, error_id, entry.at, f"by {entry.by}: {entry.what}")

    def note_decision(self, ticket_id: str, choice: Choice, run: str, actor: Actor) -> None:
        """Put into the audit log who gave the answer that a run takes from Prefect, which names nobody."""
        with self._database.write(durable=True) as connection:
            append(connection, "answered", ticket_id, {}, actor=actor, choice=str(choice), flow_run_id=run)

    def ticket(self, ticket_id: str) -> Ticket:
        """The ticket of this id, with its history.

        Raises:
            NotFoundError: There is none.
        """
        with self._database.read() as connection:
            return _ticket(connection, ticket_id)

    def tickets(self, state: TicketState | None = None, environment: str | None = None) -> Sequence[Ticket]:
        """Tickets with their histories, newest first."""
        query = sa.select(_tickets.c.ticket_id)
        if state is not None:
            query = query.where(_tickets.c.state == state.value)
        if environment is not None:
            query = query.where(_tickets.c.environment == environment)
        with self._database.read() as connection:
            newest = query.order_by(_tickets.c.opened_at.desc(), _tickets.c.id.desc())
            return [_ticket(connection, ticket_id) for ticket_id in connection.scalars(newest).all()]

    def keep_evidence(self, bundle: EvidenceBundle) -> None:
        """Write a bundle; one that is there already stays as it is.

        Raises:
            StoreConstraintError: No error has the bundle's error id.
        """
        with self._database.write() as connection:
            insert_unless_there(connection, EvidenceRow, _from_bundle(bundle), keys=["bundle_id"])

    def evidence(
        self,
        *,
        deployment_id: str | None = None,
        error_id: str | None = None,
        environment: str | None = None,
        limit: int = 100,
    ) -> Sequence[EvidenceBundle]:
        """The newest bundles of an operation, an error or an environment, oldest first."""
        query = sa.select(_evidence).order_by(_evidence.c.taken_at.desc(), _evidence.c.id.desc()).limit(limit)
        if deployment_id is not None:
            query = query.where(_evidence.c.deployment_id == deployment_id)
        if error_id is not None:
            query = query.where(_evidence.c.error_id == error_id)
        if environment is not None:
            query = query.where(_evidence.c.environment == environment)
        with self._database.read() as connection:
            return [_to_bundle(row) for row in connection.execute(query)][::-1]

    def errors_by_operation(self, environment: str) -> dict[str, str]:
        """The error each operation failed of, by the evidence it left; also where an earlier one had it too."""
        query = sa.select(_evidence.c.deployment_id, _evidence.c.error_id).where(
            _evidence.c.environment == environment,
            _evidence.c.deployment_id.is_not(None),
            _evidence.c.error_id.is_not(None),
        )
        with self._database.read() as connection:
            return {
                row.deployment_id: row.error_id for row in connection.execute(query.order_by(_evidence.c.id.desc()))
            }

    def link_evidence(self, bundle_ids: Sequence[str], error_id: str) -> None:
        """Say that bundles show an error, in their rows and in the error's own evidence.

        Of an error seen again and again the first bundle and the latest few stay.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            connection.execute(
                sa.update(_evidence).where(_evidence.c.bundle_id.in_(bundle_ids)).values(error_id=error_id)
            )
            of_it = sa.select(_evidence.c.bundle_id).where(_evidence.c.error_id == error_id)
            known = list(connection.scalars(of_it.order_by(_evidence.c.taken_at, _evidence.c.id)))
            kept = [*known[:1], *known[1:][1 - _BUNDLES_OF_AN_ERROR :]]
            connection.execute(
                sa.delete(_evidence).where(_evidence.c.error_id == error_id, _evidence.c.bundle_id.not_in(kept))
            )
            before = connection.scalar(sa.select(_errors.c.evidence).where(_errors.c.error_id == error_id))
            connection.execute(
                sa.update(_errors)
                .where(_errors.c.error_id == error_id)
                .values(evidence={**(before or {}), "bundles": kept})
            )

    def error_of_evidence(self, bundle_id: str) -> str | None:
        """The id of the error that a bundle shows; None where the bundle is not kept, or shows none."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_evidence.c.error_id).where(_evidence.c.bundle_id == bundle_id))

    def keep_reason(self, error_id: str, reason: str) -> None:
        """Write into an error's evidence why neither an attempt is made at it nor a person asked; the latest stays."""
        with self._database.write() as connection:
            this = _errors.c.error_id == error_id
            known = connection.scalar(sa.select(_errors.c.evidence).where(this))
            connection.execute(sa.update(_errors).where(this).values(evidence={**(known or {}), "left_alone": reason}))

    def pause(
        self,
        environment: str | None,
        service: str | None,
        until: datetime | None,
        reason: str,
        by: str,
        at: datetime | None = None,
        actor: Actor = SYSTEM,
    ) -> None:
        """Switch automatic recovery off; None means every environment or service, no end, or from now on."""
        values = {
            "environment": environment or _ALL,
            "service_name": service or _ALL,
            "until": until,
            "reason": reason,
            "by": by,
            "paused_at": at or datetime.now(UTC),
            **actor_columns(actor),
        }
        with self._database.write(durable=True) as connection:
            upsert(connection, RecoveryControl, values, keys=["environment", "service_name"])
            audit_row(connection, "paused", _controls.name, (environment or _ALL, service or _ALL), actor)

    def resume(self, environment: str | None, service: str | None, actor: Actor = SYSTEM) -> bool:
        """Switch automatic recovery on again where `pause` with the same words switched it off."""
        with self._database.write(durable=True) as connection:
            done = connection.execute(
                sa.delete(_controls).where(
                    _controls.c.environment == (environment or _ALL),
                    _controls.c.service_name == (service or _ALL),
                )
            )
            if done.rowcount == 1:
                audit_row(connection, "unpaused", _controls.name, (environment or _ALL, service or _ALL), actor)
            return done.rowcount == 1

    def paused(self, environment: str, service: str | None, now: datetime) -> Pause | None:
        """What keeps automatic recovery of a service off now, the widest first; None where nothing does."""
        query = (
            sa.select(_controls)
            .where(
                _controls.c.environment.in_([_ALL, environment]),
                _controls.c.service_name.in_([_ALL, service or _ALL]),
                sa.or_(_controls.c.until.is_(None), _controls.c.until > now),
            )
            .order_by(_controls.c.environment, _controls.c.service_name)
            .limit(1)
        )
        with self._database.read() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else _to_pause(found)

    def pauses(self, now: datetime) -> Sequence[Pause]:
        """Everything that is switched off now."""
        query = sa.select(_controls).where(sa.or_(_controls.c.until.is_(None), _controls.c.until > now))
        with self._database.read() as connection:
            return [_to_pause(row) for row in connection.execute(query)]


def _alike(error_id: str) -> sa.Select[Any]:
    """The ids of errors of the same service and cause, whatever their words; of the unknown each is its own."""
    one, other = _errors.alias("one"), _errors.alias("other")
    same_cause = sa.or_(other.c.category == one.c.category, *(side.c.category.in_(SYMPTOMS) for side in (one, other)))
    same = sa.and_(other.c.environment == one.c.environment, other.c.service_name == one.c.service_name, same_cause)
    return (
        sa.select(other.c.error_id)
        .select_from(one.join(other, same))
        .where(one.c.error_id == error_id, one.c.category != Category.UNKNOWN.value)
    )


def _resolve(connection: sa.Connection, error_id: str, at: datetime, resolution: str) -> bool:
    done = connection.execute(
        sa.update(_errors)
        .where(_errors.c.error_id == error_id, _errors.c.resolved_at.is_(None))
        .values(resolved_at=at, resolution=resolution)
    )
    return done.rowcount == 1


def _fingerprint(error: RecordedError) -> str:
    verdict = error.verdict
    what = verdict.template or verdict.pattern_name or ""
    parts = (error.environment, error.service or "", verdict.category.value, what)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _from_pattern(pattern: Pattern, *, shipped: bool) -> dict[str, Any]:
    return {
        "pattern_name": pattern.name,
        "pattern_regex": pattern.regex,
        "category": pattern.category.value,
        "severity": pattern.severity.value,
        "auto_recovery_possible": pattern.auto_recovery_possible,
        "recovery_script_path": pattern.recovery_script,
        "strategy": pattern.strategy.value,
        "priority": pattern.priority,
        "enabled": pattern.enabled,
        "shipped": shipped,
    }


def _to_pattern(row: sa.Row[Any]) -> Pattern:
    return Pattern(
        name=row.pattern_name,
        regex=row.pattern_regex,
        category=Category(row.category),
        severity=Severity(row.severity),
        strategy=Strategy(row.strategy or Strategy.INVESTIGATE),
        priority=50 if row.priority is None else row.priority,
        enabled=row.enabled is not False,
        shipped=bool(row.shipped),
        recovery_script=row.recovery_script_path,
        match_count=row.match_count or 0,
        last_matched=row.last_matched,
    )


def _from_error(error: RecordedError, fingerprint: str) -> dict[str, Any]:
    verdict = error.verdict
    return {
        "error_id": error.error_id,
        "environment": error.environment,
        "deployment_id": error.deployment_id,
        "service_name": error.service,
        "text": error.text,
        "category": verdict.category.value,
        "severity": verdict.severity.value,
        "strategy": verdict.strategy.value,
        "confidence": verdict.confidence,
        "pattern_name": verdict.pattern_name,
        "reason": verdict.reason,
        "span": None if verdict.span is None else list(verdict.span),
        "template": verdict.template,
        "fingerprint": fingerprint,
        "source": error.source,
        "evidence": error.evidence or None,
        "first_seen": error.first_seen,
        "last_seen": error.last_seen,
        "count": error.count,
        "predictive": error.predictive,
        "resolved_at": error.resolved_at,
    }


def _to_error(row: sa.Row[Any]) -> RecordedError:
    values = row._mapping
    return RecordedError(
        error_id=row.error_id,
        environment=row.environment,
        text=row.text,
        source=row.source,
        verdict=Verdict(
            category=Category(row.category),
            severity=Severity(row.severity),
            strategy=Strategy(row.strategy),
            confidence=row.confidence,
            reason=row.reason,
            pattern_name=row.pattern_name,
            span=None if row.span is None else (row.span[0], row.span[1]),
            template=row.template,
        ),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        deployment_id=row.deployment_id,
        service=row.service_name,
        # A row's own `count` is a method of the tuple it is.
        count=values["count"],
        predictive=row.predictive,
        resolved_at=row.resolved_at,
        evidence=row.evidence or {},
    )


def _from_execution(execution: RecoveryExecution) -> dict[str, Any]:
    return {
        "error_id": execution.error_id,
        "recovery_strategy": execution.strategy.value,
        "execution_start": execution.started_at,
        "execution_end": execution.ended_at,
        "success": execution.success,
        "steps_executed": list(execution.steps),
        "final_status": execution.final_status,
        "manual_intervention_required": execution.manual_intervention_required,
        "attempt_id": execution.attempt_id,
        "detected_at": execution.detected_at,
        "diagnosed_at": execution.diagnosed_at,
        "acted_at": execution.acted_at,
        "verified_at": execution.verified_at,
        "details": {
            "attempt": execution.attempt,
            "engine": execution.engine,
            "points": execution.points,
            "runner": execution.runner,
            "planned": execution.planned,
            "undo": execution.undo,
            "undone": execution.undone,
        },
    }


def _to_execution(row: sa.Row[Any]) -> RecoveryExecution:
    details = row.details or {}
    return RecoveryExecution(
        error_id=row.error_id,
        strategy=Strategy(row.recovery_strategy),
        started_at=row.execution_start,
        ended_at=row.execution_end,
        success=row.success,
        steps=_steps.validate_python(row.steps_executed or ()),
        final_status=row.final_status or "",
        manual_intervention_required=bool(row.manual_intervention_required),
        attempt_id=row.attempt_id,
        attempt=details.get("attempt", 1),
        environment=row.environment,
        service=row.service_name,
        engine=details.get("engine", ""),
        points=details.get("points", 1),
        runner=Runner(**details["runner"]) if details.get("runner") else None,
        planned=_planned.validate_python(details.get("planned") or ()),
        undo=_planned.validate_python(details.get("undo") or ()),
        undone=bool(details.get("undone")),
        detected_at=row.detected_at,
        diagnosed_at=row.diagnosed_at,
        acted_at=row.acted_at,
        verified_at=row.verified_at,
    )


def _from_ticket(ticket: Ticket) -> dict[str, Any]:
    return {
        "ticket_id": ticket.ticket_id,
        "error_id": ticket.error_id,
        "environment": ticket.environment,
        "service_name": ticket.service,
        "title": ticket.title,
        "state": ticket.state.value,
        "steps": list(ticket.steps),
        "tried": list(ticket.tried),
        "affected_services": list(ticket.affected_services),
        "opened_at": ticket.opened_at,
        "resolved_at": ticket.resolved_at,
        "evidence": list(ticket.evidence) or None,
        "since": ticket.since,
        "flow_run_id": ticket.flow_run_id,
    }


def _append_to_ticket(connection: sa.Connection, known: sa.Row[Any], ticket: Ticket) -> None:
    open_again = known.state == TicketState.RESOLVED
    connection.execute(
        sa.update(_tickets)
        .where(_tickets.c.ticket_id == known.ticket_id)
        .values(
            state=TicketState.OPEN.value if open_again else known.state,
            resolved_at=None,
            error_id=ticket.error_id,
            since=ticket.since if open_again else known.since,
            steps=list(ticket.steps) or known.steps,
            tried=list(dict.fromkeys([*(known.tried or ()), *ticket.tried])),
            affected_services=sorted({*(known.affected_services or ()), *ticket.affected_services}),
            evidence=list(ticket.evidence) or known.evidence,
        )
    )


def _add_history(connection: sa.Connection, ticket_id: str, entries: Sequence[TicketEntry]) -> None:
    """Add lines to a ticket's history, and to the audit log both them and how the ticket stands."""
    lines: dict[str, Any] = {}
    for entry in entries:
        values = {"ticket_id": ticket_id, "at": entry.at, "by": entry.by, "what": entry.what}
        insert(connection, TicketHistory, values | actor_columns(entry.actor))
        newest = connection.scalar(sa.select(sa.func.max(_history.c.id)).where(_history.c.ticket_id == ticket_id))
        lines |= row_as_recorded(connection, _history.name, (newest,))
    rows = {_tickets.name: row_as_recorded(connection, _tickets.name, (ticket_id,)), _history.name: lines}
    append(connection, "ticket", ticket_id, rows, actor=entries[-1].actor if entries else SYSTEM)


def _ticket(connection: sa.Connection, ticket_id: str) -> Ticket:
    row = connection.execute(sa.select(_tickets).where(_tickets.c.ticket_id == ticket_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"No ticket has the id {ticket_id!r};", advice="`roas tickets` lists them.")
    lines = connection.execute(sa.select(_history).where(_history.c.ticket_id == ticket_id).order_by(_history.c.id))
    return Ticket(
        ticket_id=row.ticket_id,
        error_id=row.error_id,
        environment=row.environment,
        title=row.title,
        opened_at=row.opened_at,
        state=TicketState(row.state),
        service=row.service_name,
        steps=tuple(row.steps or ()),
        tried=tuple(row.tried or ()),
        affected_services=tuple(row.affected_services or ()),
        history=tuple(TicketEntry(at=line.at, by=line.by, what=line.what, actor=actor_of(line)) for line in lines),
        resolved_at=row.resolved_at,
        evidence=tuple(row.evidence or ()),
        since=row.since,
        flow_run_id=row.flow_run_id,
    )


def _from_bundle(bundle: EvidenceBundle) -> dict[str, Any]:
    whole = _bundles.dump_python(bundle, mode="json")
    return {
        "bundle_id": bundle.bundle_id,
        "environment": bundle.environment,
        "deployment_id": bundle.deployment_id,
        "error_id": bundle.error_id,
        "service_name": bundle.service,
        "occasion": bundle.occasion.value,
        "taken_at": bundle.taken_at,
        "reason": bundle.reason,
        "first_cause": bundle.first_cause,
        "cause_service": bundle.cause_service,
        "parts": {name: whole[name] for name in _PARTS},
    }


def _to_bundle(row: sa.Row[Any]) -> EvidenceBundle:
    return _bundles.validate_python(
        {
            "bundle_id": row.bundle_id,
            "environment": row.environment,
            "deployment_id": row.deployment_id,
            "error_id": row.error_id,
            "service": row.service_name,
            "occasion": EvidenceOccasion(row.occasion),
            "taken_at": row.taken_at,
            "reason": row.reason,
            "first_cause": row.first_cause,
            "cause_service": row.cause_service,
            **(row.parts or {}),
        }
    )


def _to_pause(row: sa.Row[Any]) -> Pause:
    return Pause(
        environment=row.environment or None,
        service=row.service_name or None,
        until=row.until,
        reason=row.reason,
        by=row.by,
        paused_at=row.paused_at,
        actor=actor_of(row),
    )
