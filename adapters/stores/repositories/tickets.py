"""Tickets that ask a user to intervene, with their history, and which errors users were notified of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.audit import actor_columns, actor_of, append, row_as_recorded
from adapters.stores.repositories.errors import resolve_error, to_error
from adapters.stores.repositories.recoveries import Recoveries
from adapters.stores.repositories.repository import Repository, Rows, equals_given
from adapters.stores.sql import insert, table
from models.audit import SYSTEM, Actor
from models.errors import SAID, SYMPTOMS, Category
from models.failures import NotFoundError
from models.notifications import ReportedError, SentNotifications
from models.recovery import Choice, Ticket, TicketEntry, TicketState
from models.tables.errors import DeploymentError, TicketHistory, TicketRow

_errors = table(DeploymentError)
_tickets = table(TicketRow)
_history = table(TicketHistory)
_rows = Rows(TicketRow, Ticket, service="service_name")
_entries = Rows(TicketHistory, TicketEntry)


class Tickets(Repository):
    """Tickets that ask a user to intervene, with their history."""

    def open(self, ticket: Ticket) -> Ticket:
        """Open one ticket a cause, and return it as recorded.

        A ticket of the same cause that is still open gets the news of this one; a resolved one is opened
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
            row = connection.execute(newest.where(_tickets.c.fingerprint == fingerprint)).one_or_none()
            if row is None or row.state == TicketState.RESOLVED:
                in_other_words = newest.where(
                    _tickets.c.state != TicketState.RESOLVED.value,
                    _tickets.c.error_id.in_(_alike(connection, ticket.error_id)),
                )
                row = connection.execute(in_other_words).one_or_none() or row
            if row is None:
                values = _rows.to_row(ticket, evidence=ticket.evidence or None, fingerprint=fingerprint or "")
                insert(connection, TicketRow, values)
                ticket_id, news = ticket.ticket_id, ""
            else:
                ticket_id, news = row.ticket_id, ""
                _append_to_ticket(connection, row, ticket)
                if row.state == TicketState.RESOLVED:
                    news = "came back: opened again"
                elif row.error_id != ticket.error_id:
                    news = f"seen again: {ticket.title}"
            entries = ticket.history
            if news:
                entries = (*entries, TicketEntry(at=ticket.opened_at, by="roas", what=news))
            if entries or row is None:
                _add_history(connection, ticket_id, entries)
            return _ticket(connection, ticket_id)

    def resolve_for_error(self, error_id: str, entry: TicketEntry) -> Sequence[Ticket]:
        """Resolve the tickets of an error, with a line in each history; returns them as they were before."""
        with self._database.write(durable=True) as connection:
            condition = sa.and_(_tickets.c.error_id == error_id, _tickets.c.state != TicketState.RESOLVED.value)
            names = connection.scalars(sa.select(_tickets.c.ticket_id).where(condition)).all()
            closed = [_ticket(connection, ticket_id) for ticket_id in names]
            values = {"state": TicketState.RESOLVED.value, "resolved_at": entry.at}
            connection.execute(sa.update(_tickets).where(condition).values(values))
            for ticket_id in names:
                _add_history(connection, ticket_id, [entry])
            return closed

    def set_waiting_run(self, ticket_id: str, flow_run_id: str | None, entry: TicketEntry | None = None) -> None:
        """Write which suspended run a ticket's answer goes to, None where none waits any more.

        `entry` is added to its history, once however often it is reported.
        """
        change = sa.update(_tickets).where(_tickets.c.ticket_id == ticket_id).values(flow_run_id=flow_run_id)
        with self._database.write() as connection:
            is_there = connection.execute(change).rowcount == 1
            if is_there and entry and entry.what not in {line.what for line in _ticket(connection, ticket_id).history}:
                _add_history(connection, ticket_id, [entry])

    def answer(self, ticket: Ticket, choice: Choice, entry: TicketEntry) -> None:
        """Keep what a person answered. RESOLVED resolves the ticket and its errors; SKIP and GIVE_UP acknowledge it."""
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
                for error_id in (ticket.error_id, *_alike(connection, ticket.error_id)):
                    resolve_error(connection, error_id, entry.at, f"by {entry.by}: {entry.what}")

    def audit_answer(self, ticket_id: str, choice: Choice, run: str, actor: Actor) -> None:
        """Record in the audit log who gave the answer that a run takes from Prefect, which names no user."""
        with self._database.write(durable=True) as connection:
            append(connection, "answered", ticket_id, {}, actor=actor, choice=str(choice), flow_run_id=run)

    def get(self, ticket_id: str) -> Ticket:
        """The ticket of this id, with its history.

        Raises:
            NotFoundError: There is none.
        """
        with self._database.read() as connection:
            return _ticket(connection, ticket_id)

    def get_by_prefix(self, ticket_id: str) -> Ticket:
        """The ticket of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        row = self._row_by_prefix(_tickets.c.ticket_id, ticket_id, "ticket", "`roas tickets` lists them.")
        return self.get(row.ticket_id)

    def count_unresolved(self) -> dict[str, int]:
        """The number of tickets that are not resolved, by environment."""
        listed = [state.value for state in TicketState if state is not TicketState.RESOLVED]
        query = sa.select(_tickets.c.environment, sa.func.count().label("total")).where(_tickets.c.state.in_(listed))
        return {row.environment: row.total for row in self._all(query.group_by(_tickets.c.environment))}

    def find(self, state: TicketState | None = None, environment: str | None = None) -> Sequence[Ticket]:
        """Tickets with their histories, newest first."""
        with self._database.read() as connection:
            return _find(connection, *equals_given(_tickets, state=state, environment=environment))

    def of_errors(self, errors: sa.Select[Any]) -> Sequence[Ticket]:
        """The tickets of the errors whose ids a query selects, newest first."""
        with self._database.read() as connection:
            return _find(connection, _tickets.c.error_id.in_(errors))


def _alike(connection: sa.Connection, error_id: str) -> list[str]:
    """The ids of errors of the same service and cause, whatever their words; of the unknown each is its own.

    Two whose logs show different causes are not alike, however much alike they failed.
    """
    error, other = _errors.alias("one"), _errors.alias("other")
    same_cause = sa.or_(
        other.c.category == error.c.category, *(side.c.category.in_(SYMPTOMS) for side in (error, other))
    )
    same = sa.and_(other.c.environment == error.c.environment, other.c.service_name == error.c.service_name, same_cause)
    rows = connection.execute(
        sa.select(other.c.error_id, other.c.evidence, error.c.evidence)
        .select_from(error.join(other, same))
        .where(error.c.error_id == error_id, error.c.category != Category.UNKNOWN.value)
    ).all()
    causes = [(key, (theirs or {}).get(SAID), (evidence or {}).get(SAID)) for key, theirs, evidence in rows]
    return [key for key, theirs, cause in causes if not theirs or not cause or theirs == cause]


def _append_to_ticket(connection: sa.Connection, row: sa.Row[Any], ticket: Ticket) -> None:
    open_again = row.state == TicketState.RESOLVED
    connection.execute(
        sa.update(_tickets)
        .where(_tickets.c.ticket_id == row.ticket_id)
        .values(
            state=TicketState.OPEN.value if open_again else row.state,
            resolved_at=None,
            error_id=ticket.error_id,
            title=ticket.title if open_again else row.title,
            since=ticket.since if open_again else row.since,
            steps=list(ticket.steps) or row.steps,
            tried=list(dict.fromkeys([*(row.tried or ()), *ticket.tried])),
            affected_services=sorted({*(row.affected_services or ()), *ticket.affected_services}),
            evidence=list(ticket.evidence) or row.evidence,
        )
    )


def _add_history(connection: sa.Connection, ticket_id: str, entries: Sequence[TicketEntry]) -> None:
    """Add lines to a ticket's history, and to the audit log both them and how the ticket stands."""
    lines: dict[str, Any] = {}
    for entry in entries:
        values = _entries.to_row(entry, ticket_id=ticket_id, **actor_columns(entry.actor))
        insert(connection, TicketHistory, values)
        newest = connection.scalar(sa.select(sa.func.max(_history.c.id)).where(_history.c.ticket_id == ticket_id))
        lines |= row_as_recorded(connection, _history.name, (newest,))
    rows = {_tickets.name: row_as_recorded(connection, _tickets.name, (ticket_id,)), _history.name: lines}
    append(connection, "ticket", ticket_id, rows, actor=entries[-1].actor if entries else SYSTEM)


def _ticket(connection: sa.Connection, ticket_id: str) -> Ticket:
    tickets = _find(connection, _tickets.c.ticket_id == ticket_id)
    if not tickets:
        raise NotFoundError(f"No ticket has the id {ticket_id!r};", advice="`roas tickets` lists them.")
    return tickets[0]


def _find(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Ticket]:
    """The tickets that meet conditions, newest first, by two queries however many they are."""
    newest = sa.select(_tickets).where(*conditions).order_by(_tickets.c.opened_at.desc(), _tickets.c.id.desc())
    rows = connection.execute(newest).all()
    histories: dict[str, list[TicketEntry]] = {row.ticket_id: [] for row in rows}
    if rows:
        ids = sa.select(_tickets.c.ticket_id).where(*conditions)
        query = sa.select(_history).where(_history.c.ticket_id.in_(ids)).order_by(_history.c.id)
        for line in connection.execute(query):
            # In PostgreSQL another one may have come between the two queries.
            if line.ticket_id in histories:
                histories[line.ticket_id].append(_entries.to_value(line, actor=actor_of(line)))
    return [_rows.to_value(row, history=tuple(histories[row.ticket_id])) for row in rows]


class ErrorNotifications(Repository):
    """Which errors users were notified of, and when."""

    def reported_errors(self, environment: str, resolved_since: datetime) -> Sequence[ReportedError]:
        """Every error that is open or was resolved since then, with what people were told and asked about it."""
        reported = sa.and_(
            _errors.c.environment == environment,
            sa.or_(_errors.c.resolved_at.is_(None), _errors.c.resolved_at >= resolved_since),
        )
        rows = self._all(sa.select(_errors).where(reported).order_by(_errors.c.first_seen, _errors.c.id))
        if not rows:
            return []
        of_these = Tickets(self._database).of_errors(sa.select(_errors.c.error_id).where(reported))
        tickets = {ticket.error_id: ticket for ticket in of_these}
        tried = Recoveries(self._database).find(environment=environment, since=rows[0].first_seen)
        return [
            ReportedError(
                error=to_error(row),
                reported=SentNotifications(times=row.notices or 0, last_at=row.notified_at, end_at=row.notified_end),
                resolution=row.resolution or "",
                ticket=tickets.get(row.error_id),
                executions=[execution for execution in tried if execution.error_id == row.error_id],
            )
            for row in rows
        ]

    def times_sent_since(self, environments: Sequence[str], since: datetime) -> list[datetime]:
        """The moments of messages about errors of environments since then; a message about several has one moment."""
        columns = (_errors.c.notified_at, _errors.c.notified_end)
        condition = _errors.c.environment.in_(environments)
        rows = self._all(sa.select(*columns).where(condition, sa.or_(*(column >= since for column in columns))))
        return sorted({at for row in rows for at in row if at is not None and at >= since})

    def mark_sent(self, error_id: str, before: SentNotifications, now: SentNotifications) -> bool:
        """Record a notification about an error; False where another process has sent one since `before`."""
        return self._change(
            sa.update(_errors)
            .where(
                _errors.c.error_id == error_id,
                sa.func.coalesce(_errors.c.notices, 0) == before.times,
                _errors.c.notified_end.is_(None) if before.end_at is None else sa.true(),
            )
            .values(notices=now.times, notified_at=now.last_at, notified_end=now.end_at)
        )
