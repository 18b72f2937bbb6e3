"""The pages of failures and tickets: cause, evidence, what was tried, and what a person can answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from core.recovery.manual_steps import earlier_answers
from core.reporting.line_context import context_of
from flows.page.rendering import BASE, render
from models.recovery import Choice, TicketState
from tasks.reporting.operation_view import read_budget_left, read_similar
from tasks.reporting.postmortem import read_failure
from tasks.reporting.read import read_ticket_details
from tasks.runtime.stores import open_stores, stores_exist

ANSWERS = {
    Choice.RESOLVED: ("Resolved by hand", "The ticket and its errors are recorded as resolved. Nothing is done."),
    Choice.RETRY: ("Try again", "Recovery is tried again now from the step that failed, whatever its budgets say."),
    Choice.AGAIN: ("Again from the start", "The whole recovery is done again now, whatever its budgets say."),
    Choice.ROLL_BACK: ("Roll back", "The environment goes back to the last proven release."),
    Choice.SKIP: ("Skip", "The ticket is acknowledged. Nothing is done about it."),
    Choice.GIVE_UP: ("Give up", "The ticket is acknowledged, and the waiting run ends."),
}
"""What a person can answer, and what each answer does."""


def failure(request: Request) -> Response:
    """One failure, by the id of its error or ticket; an operation's has the operation's page."""
    records = read_failure(request.path_params["failure"])
    if records.operation is not None and records.subject == records.operation.deployment_id:
        return RedirectResponse(f"{BASE}/operations/{records.subject}", status_code=303)
    # It imports what other pages do not need.
    from core.reporting.postmortem import write_postmortem

    error, written = records.errors[0].error, write_postmortem(records)
    return render(
        request,
        "failure.html.j2",
        records=records,
        error=error,
        written=written,
        context=context_of(records.bundles, written.lines),
        budget=read_budget_left(error),
        similar=read_similar(error),
    )


def tickets(request: Request) -> Response:
    """Tickets that wait for an answer, of all or of one `environment`; with `all`, those that are resolved too."""
    name, everything = request.query_params.get("environment") or None, "all" in request.query_params
    listed = open_stores().tickets.find(environment=name) if stores_exist() else []
    waiting = [ticket for ticket in listed if ticket.state is not TicketState.RESOLVED]
    return render(
        request,
        "tickets.html.j2",
        tickets=listed if everything else waiting,
        everything=everything,
        name=name,
        counts=(len(waiting), len(listed)),
    )


def ticket(request: Request) -> Response:
    """One ticket: the failure, its evidence, what was tried, and what each answer would do."""
    details = read_ticket_details(request.path_params["ticket"])
    tried = details.ticket.tried
    choices = [choice for choice in ANSWERS if choice is not Choice.AGAIN or tried]
    return render(
        request,
        "ticket.html.j2",
        details=details,
        before=earlier_answers(details.ticket.history),
        budget=read_budget_left(details.error),
        similar=read_similar(details.error),
        answers=[(str(choice), *ANSWERS[choice]) for choice in choices],
        is_open=details.ticket.state is not TicketState.RESOLVED,
    )
