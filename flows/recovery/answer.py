"""Answer a ticket: by a command, or by a link that a notification carried into a chat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from adapters.notifications.answer_keys import answer_key, forget_used, use_once, was_used
from adapters.notifications.answer_server import AnswerPage
from core.common.safe_text import shorten
from core.notifications.answers import (
    LABELS,
    PAUSED_FOR,
    VALID_FOR,
    AnswerAction,
    AnswerToken,
    BadTokenError,
    read_token,
    what_happens,
)
from core.runtime.scheduled import schedule_of
from models.audit import Actor
from models.failures import BadInputError, RoasError
from models.recovery import Choice, Ticket, TicketEntry
from models.settings import current_settings
from tasks.errors.redact import redact_now
from tasks.runtime.stores import open_stores

log = logging.getLogger("roas")

_LONGEST_NOTE = 500
_CHOICES = {
    AnswerAction.RESOLVE: Choice.RESOLVED,
    AnswerAction.APPROVE: Choice.AGAIN,
    AnswerAction.ACKNOWLEDGE: Choice.SKIP,
}


async def decide(ticket: Ticket, choice: Choice, note: str, by: str, actor: Actor) -> str:
    """Resume the run that waits for the answer; without one, carry out the decision here. Return what was done.

    Raises:
        BadInputError: The ticket was answered a moment ago, or is about a schedule, which its own command repeats.
    """
    from flows.recovery.error_recovery import error_recovery
    from tasks.recovery.approve import AnswerResult, cancel_run, resume_with
    from tasks.reporting.read import remembered_compose_files

    run = ticket.flow_run_id
    if choice.acts and (schedule := schedule_of(open_stores().errors.get(ticket.error_id))):
        raise BadInputError(
            f"Ticket {ticket.ticket_id} is about a schedule;",
            advice=f"`roas schedule run {ticket.environment} {schedule}` does it again; its success ends the ticket.",
        )
    if run is not None:
        result = await resume_with(run, {"choice": str(choice), "note": note, "by": by})
        if result is AnswerResult.TAKEN:
            # The run gets the answer from Prefect, which cannot prove who gave it.
            open_stores().tickets.audit_answer(ticket.ticket_id, choice, run, actor)
            return f"{ticket.ticket_id}: {choice}; run {run} continues"
        if result is AnswerResult.TOO_LATE:
            raise BadInputError(
                f"Ticket {ticket.ticket_id} was answered a moment ago, and run {run} continues with that answer;",
                advice=f"`roas tickets {ticket.ticket_id}` shows what was decided.",
            )
    summary = keep_answer(ticket, choice, note, by, actor)
    if choice.acts:
        error = open_stores().errors.get(ticket.error_id)
        outcome = await error_recovery(
            error.environment,
            error.text,
            service=error.service,
            source=error.source,
            decided=choice,
            compose_files=list(remembered_compose_files(error.environment)),
        )
        summary = f"{ticket.ticket_id}: {choice}; {outcome.method.label}: {outcome.reason}"
    elif run is not None:
        await cancel_run(run, summary)
    return summary


def keep_answer(ticket: Ticket, choice: Choice, note: str, by: str, actor: Actor) -> str:
    """Record an answer that needs no action; return what was recorded."""
    entry = TicketEntry(at=datetime.now(UTC), by=by, what=f"{choice}: {note}", actor=actor)
    open_stores().tickets.answer(ticket, choice, entry)
    if choice is Choice.RESOLVED:
        return f"{ticket.ticket_id} and error {ticket.error_id} are resolved"
    return f"{ticket.ticket_id}: {choice}; stored"


class AnswerDesk:
    """Shows and follows answer links, for a server that calls from threads of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._data_dir = current_settings().data_dir.absolute()
        self._key = answer_key(self._data_dir)
        forget_used(self._data_dir, datetime.now(UTC), VALID_FOR)

    def refusal(self, text: str) -> AnswerPage | None:
        """Return why a link is not valid; None where it is signed by us, and neither expired nor used."""
        try:
            self._token(text)
        except BadTokenError as refused:
            return _refuse(refused)
        return None

    def show(self, text: str) -> AnswerPage:
        """Say what a link would do; nothing is done, since chat services open links by themselves."""
        try:
            token, ticket = self._read(text)
            return AnswerPage(
                status=HTTPStatus.OK,
                title=LABELS[token.action],
                text=f"{shorten(ticket.title)}. {what_happens(token, ticket)}",
                button=LABELS[token.action],
            )
        except (BadTokenError, RoasError) as refused:
            return _refuse(refused)

    def answer(self, text: str, note: str) -> AnswerPage:
        """Do what a link allows, once."""
        try:
            token, ticket = self._read(text)
            what_happens(token, ticket)
            if not use_once(self._data_dir, token.nonce):
                raise BadTokenError("This link was used already.")
            done = self._follow(token, ticket, redact_now(ticket.environment, note.strip()[:_LONGEST_NOTE]))
        except (BadTokenError, RoasError) as refused:
            return _refuse(refused)
        log.info("%s by a link in %s: %s", token.action, token.channel, done)
        return AnswerPage(status=HTTPStatus.OK, title="Done", text=done)

    def _read(self, text: str) -> tuple[AnswerToken, Ticket]:
        token = self._token(text)
        return token, open_stores().tickets.get(token.ticket_id)

    def _token(self, text: str) -> AnswerToken:
        token = read_token(text, self._key, datetime.now(UTC))
        if was_used(self._data_dir, token.nonce):
            raise BadTokenError("This link was used already.")
        return token

    def _follow(self, token: AnswerToken, ticket: Ticket, note: str) -> str:
        by = f"link in {token.channel}"
        # Nothing proves who pressed the button: the link is known to all who read the channel.
        actor, note = Actor(claimed=by), note or "no note"
        if token.action is AnswerAction.PAUSE:
            now = datetime.now(UTC)
            until = now + PAUSED_FOR
            open_stores().pauses.pause(ticket.environment, ticket.service, until, note, by, now, actor)
            return f"automatic recovery is off until {until:%Y-%m-%d %H:%M} UTC"
        choice = _CHOICES[token.action]
        if ticket.flow_run_id or choice.acts:
            return self._call_in_loop(decide(ticket, choice, note, by, actor))
        return keep_answer(ticket, choice, note, by, actor)

    def _call_in_loop(self, doing: Coroutine[Any, Any, str]) -> str:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()


def _refuse(why: Exception) -> AnswerPage:
    text = why.what if isinstance(why, RoasError) else str(why)
    return AnswerPage(status=HTTPStatus.GONE, title="Nothing was done", text=text)
