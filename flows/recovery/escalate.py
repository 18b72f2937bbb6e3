"""Escalation: the question to a person, as a ticket, and the run that waits for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from core.recovery.manual_steps import manual_steps
from core.recovery.policy import RecoveryPlan
from flows.recovery.diagnose import Diagnosis
from flows.runtime.identifiers import new_ticket_id
from models.environments import Environment
from models.recovery import RecoveryExecution, Ticket, TicketState
from tasks.recovery.approve import ask_on_the_server
from tasks.recovery.records import let_ticket_wait


@dataclass(frozen=True, slots=True)
class Question:
    """Why a person is asked, what was tried before, and what to do before the usual steps."""

    reason: str
    tried: tuple[str, ...] = ()
    first_step: str = ""


def question_of(plan: RecoveryPlan, mine: Sequence[RecoveryExecution]) -> Question:
    """Return the question of a plan that needs a person, with the attempts made at the error."""
    last = f" The last ended so: {mine[-1].final_status}" if mine else ""
    return Question(plan.reason + last, tuple(step for one in mine for step in attempt_details(one)))


def attempt_details(execution: RecoveryExecution) -> tuple[str, ...]:
    """Return what the steps of an attempt reported."""
    return tuple(step.detail for step in execution.steps if step.detail)


def new_ticket(
    question: Question, diagnosis: Diagnosis, environment: Environment | None, service: str | None
) -> Ticket:
    """Write a question as a ticket, with exact commands and the evidence."""
    now, error = datetime.now(UTC), diagnosis.error
    steps = manual_steps(
        diagnosis.verdict,
        service=service,
        project=environment.project if environment else error.environment,
        environment=error.environment,
    )
    return Ticket(
        ticket_id=new_ticket_id(now),
        error_id=error.error_id,
        environment=error.environment,
        title=f"{diagnosis.verdict.category} of {service or error.environment}: {question.reason}",
        opened_at=now,
        service=service,
        steps=(*filter(None, [question.first_step]), *steps),
        tried=question.tried,
        affected_services=diagnosis.affected,
        evidence=diagnosis.evidence,
        since=error.first_seen,
    )


async def ask_in_own_run(ticket: Ticket, text: str) -> None:
    """Start a run that asks about an open ticket, where the environment's recovery is deployed."""
    if ticket.state is not TicketState.OPEN:
        return
    run = await ask_on_the_server(ticket, text)
    if run is not None and run != ticket.flow_run_id:
        await let_ticket_wait(ticket.ticket_id, run)
