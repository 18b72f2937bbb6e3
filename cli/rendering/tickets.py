"""Text output of tickets: a list, and one in detail."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from rich.markup import escape

from cli.rendering.console import ago, moment, say
from cli.rendering.why import fold, part, shown_lines
from core.common.safe_text import printable
from core.recovery.manual_steps import earlier_answers
from models.records import TicketDetails
from models.recovery import Choice, Ticket, TicketEntry, TicketState
from models.settings import current_settings


def show_tickets(tickets: Sequence[Ticket]) -> None:
    """Print a few lines for each ticket."""
    if not tickets:
        say("No ticket is open.")
    for ticket in tickets:
        since = f"since {ago(ticket.since)}" if ticket.since else f"opened {ago(ticket.opened_at)}"
        say(f"\n[bold]{ticket.ticket_id}[/bold] {ticket.state}  {escape(ticket.environment)}  [dim]{since}[/dim]")
        say(f"  {escape(ticket.title)}")
        if ticket.affected_services:
            say(f"  affected: {', '.join(ticket.affected_services)}")
        say(f"  next: roas tickets {ticket.ticket_id}")


def show_ticket(details: TicketDetails) -> None:
    """Print one ticket: failure, evidence, attempts and commands."""
    ticket, error = details.ticket, details.error
    say(f"\n[bold]{ticket.ticket_id}[/bold] {ticket.state}  {escape(ticket.environment)}")
    say(f"  [bold]{escape(ticket.title)}[/bold]")
    since = ticket.since or error.first_seen
    say(
        f"  [dim]since {moment(since)}, {ago(since)}; seen {error.how_often}, last {ago(error.last_seen)}; "
        f"error {error.error_id}[/dim]"
    )
    if ticket.affected_services:
        say(f"  affected: {', '.join(ticket.affected_services)}")
    # Without evidence the error's own words are all that names the cause.
    name, cause = ("seen", details.first_cause) if details.first_cause else ("failed", error.text)
    evidence = f"roas why {error.deployment_id or ticket.ticket_id} --evidence"
    folded = fold(printable(cause), _FOLDED, evidence)
    say("")
    for line in (*part(name, folded, len(folded), whole=True), *shown_lines(details.lines, evidence)):
        say(line)
    past = [f"{moment(entry.at)} {_author(entry)}: {entry.what}" for entry in ticket.history]
    for name, lines in (
        ("tried", ticket.tried),
        ("before", earlier_answers(ticket.history)),
        ("try", [f"{number}. {step}" for number, step in enumerate(ticket.steps, start=1)]),
        ("history", past[-_HISTORY:]),
    ):
        if lines:
            say("")
        for line in part(name, lines, len(lines), whole=True):
            say(line)
    if ticket.state is TicketState.RESOLVED:
        return
    answers = [f"roas resolve {ticket.ticket_id} --note 'what fixed it'"]
    acting = (Choice.RETRY, Choice.AGAIN) if ticket.tried else (Choice.RETRY,)
    answers += [f"roas resolve {ticket.ticket_id} --decision {quote(choice)} --note '…'" for choice in acting]
    if ticket.flow_run_id:
        ui = f"http://127.0.0.1:{current_settings().server_port}"
        answers.append(f"or Resume at {ui}/runs/flow-run/{ticket.flow_run_id}, which waits for the same answer")
    say("")
    for line in part("answer", answers, len(answers), whole=True):
        say(line)


def _author(entry: TicketEntry) -> str:
    """The author of a line, with a claimed name that differs from the proven one."""
    actor = entry.actor
    return f"{entry.by} ({actor})" if actor.uid is not None and actor.claimed not in ("", actor.user) else entry.by


_HISTORY = 10
_FOLDED = 90
