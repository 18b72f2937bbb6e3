"""`roas` commands about recovery: watch, tickets and pauses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from adapters.host.processes import this_user
from cli import completers
from cli.options import (
    Number,
    application_options,
    as_json,
    duration,
    in_environment,
    is_environment,
    known_environment,
)
from cli.run_flow import opened_stores, run_flow, show_answer
from flows.common.terminal import echo
from models.failures import BadInputError
from models.records import TicketDetails
from models.recovery import Choice, TicketState

_TICKET = re.compile(r"T(?:-|$)", re.IGNORECASE)
"""The beginning of a ticket's id."""


@click.command()
@application_options
@click.option("--hours", type=Number(min=0, max=24 * 365.0, min_open=True), help="How long; without it until Ctrl-C.")
@click.option("--dry-run", is_flag=True, help="Record failures; do not recover.")
@as_json
def watch(name: str, compose: list[str] | None, hours: float | None, dry_run: bool, json_wanted: bool) -> None:
    """Watch the engine's events and recover failed services at once. `roas serve` does this too."""

    async def run() -> object:
        from flows.recovery.watch import watch as watch_environment

        return await watch_environment(name, compose, act=not dry_run, hours=hours)

    report = run_flow(run)
    show_answer(report, json_wanted, lambda reported: echo(f"{reported.environment}: {reported.events} events"))


@click.command()
@click.argument("about", required=False, metavar="[ENV|ID]", shell_complete=completers.tickets_or_environments)
@click.option("--all", "everything", is_flag=True, help="Include resolved tickets.")
@as_json
def tickets(about: str | None, everything: bool, json_wanted: bool) -> None:
    """List tickets that wait for an answer, or show the one of ID: failure, evidence, and commands to try.

    A prefix of its id is enough.
    """
    from cli.rendering.tickets import show_ticket, show_tickets

    if about is not None and (_TICKET.match(about) or not is_environment(about, _ticket)):
        show_answer(_ticket(about), json_wanted, show_ticket)
        return
    selection = opened_stores().tickets.find(environment=about)
    if not everything:
        selection = [ticket for ticket in selection if ticket.state is not TicketState.RESOLVED]
    show_answer(selection, json_wanted, show_tickets)


def _ticket(ticket_id: str) -> TicketDetails:
    # The list needs less.
    from tasks.reporting.read import read_ticket_details

    return read_ticket_details(ticket_id)


@click.command()
@click.argument("ticket_id", shell_complete=completers.tickets)
@click.option(
    "--decision",
    type=click.Choice([str(choice) for choice in Choice]),
    default=str(Choice.RESOLVED),
    show_default=True,
    help="How to continue; the run that waits in Prefect does so.",
)
@click.option("--note", required=True, help="Why, or what fixed it; stored, and shown when the same cause returns.")
def resolve(ticket_id: str, decision: str, note: str) -> None:
    """Answer a ticket: it was resolved by hand, or how to continue.

    A prefix of its id is enough.
    """
    from flows.recovery.answer import decide, keep_answer
    from tasks.errors.redact import redact_now
    from tasks.reporting.read import read_ticket_details

    if not note.strip():
        raise BadInputError("The note is empty;", advice="say why, or what fixed it.")
    ticket = read_ticket_details(ticket_id).ticket
    if ticket.state is TicketState.RESOLVED:
        raise BadInputError(f"Ticket {ticket.ticket_id} is already resolved.")
    note = redact_now(ticket.environment, note)
    choice, actor = Choice(decision), this_user()
    if ticket.flow_run_id or choice.acts:
        echo(run_flow(lambda: decide(ticket, choice, note, actor.user, actor), quiet=True))
    else:
        echo(keep_answer(ticket, choice, note, actor.user, actor))


@click.command()
@click.argument("service", required=False, shell_complete=completers.services)
@in_environment
@click.option(
    "--for",
    "length",
    type=duration,
    metavar="DURATION",
    help="How long, such as 30m, 2h or 1d; without it until `roas unpause`.",
)
@click.option("--reason", required=True, help="Why; shown with the pause.")
def pause(service: str | None, environment: str | None, length: timedelta | None, reason: str) -> None:
    """Switch automatic recovery off, everywhere or for SERVICE; detection continues."""
    from tasks.errors.redact import redact_now

    reason, now = redact_now(environment, reason), datetime.now(UTC)
    until = None if length is None else now + length
    actor = this_user()
    opened_stores().pauses.pause(environment, service, until, reason, actor.user, now, actor)
    end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "until `roas unpause`"
    echo(f"automatic recovery of {service or 'every service'} is off {end}: {reason}")


@click.command()
@click.argument("service", required=False, shell_complete=completers.services)
@click.option("--env", "environment", help="As given to `roas pause`.", shell_complete=completers.environments)
def unpause(service: str | None, environment: str | None) -> None:
    """Switch automatic recovery on again; give the same arguments as to `roas pause`."""

    stores = opened_stores()
    if not stores.pauses.resume(environment, service, this_user()):
        pauses = [
            f"{active_pause.service or 'every service'} ({active_pause.reason})"
            for active_pause in stores.pauses.active(datetime.now(UTC))
        ]
        raise BadInputError(f"There is no such pause; paused now: {', '.join(pauses) or 'nothing'}.")
    echo(f"automatic recovery of {service or 'every service'} is on again")


@click.command()
@click.argument("environment", shell_complete=completers.environments)
@click.option("--reason", default="", help="Why; shown with the lock.")
def lock(environment: str, reason: str) -> None:
    """Let stop, restart and update ask for the environment's name, until `roas unlock`."""
    from tasks.errors.redact import redact_now

    name, actor = str(known_environment(environment)), this_user()
    opened_stores().pauses.lock(name, redact_now(name, reason), actor.user, datetime.now(UTC), actor)
    echo(f"{name} is locked: who changes it has to type its name. `roas unlock {name}` ends that")


@click.command()
@click.argument("environment", shell_complete=completers.environments)
def unlock(environment: str) -> None:
    """End a lock; `protected: true` in the environment's file stays."""
    from tasks.reporting.consent import find_lock

    done, left = opened_stores().pauses.unlock(environment, this_user()), find_lock(environment)
    if not done:
        what = f"is {left.words}, and not locked by a person" if left else "is not locked"
        raise BadInputError(f"{environment} {what};", advice="`roas status` lists environments.")
    echo(f"{environment} is unlocked" + (f"; it is still {left.words}" if left else ""))
