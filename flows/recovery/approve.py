"""Ask a person: a ticket with the question, and a run that is suspended in Prefect until it has the answer."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from uuid import UUID

from prefect import get_client
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import Pause, PrefectHTTPStatusError
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import BeforeValidator, Field, WithJsonSchema

from adapters.compose.sources import files_read
from core.common.markdown import fenced_block
from core.notifications.words import ticket_title
from core.recovery.corrections import FilePlace
from core.recovery.manual_steps import earlier_answers, manual_steps
from core.recovery.policy import RecoveryPlan
from flows.recovery.diagnose import Diagnosis, IncidentContext
from models.environments import Environment
from models.errors import Strategy
from models.records import TicketDetails
from models.recovery import Choice, RecoveryExecution, Ticket, TicketEntry, TicketState
from tasks.errors.redact import redact
from tasks.recovery.approve import ask_on_the_server, leave_failed_run
from tasks.recovery.records import let_ticket_wait
from tasks.reporting.read import read_ticket_details
from tasks.runtime.identifiers import new_ticket_id
from tasks.runtime.naming import artifact_key

log = logging.getLogger("roas")

WAITS = timedelta(days=7)
"""Without an answer by then the run fails. Its ticket stays open; Retry tries again, and asks if that fails."""

SUSPENDED = "roas.run.rests"
"""The event of a run whose process ends while the run waits for a person."""

_ENDS_WITHIN = timedelta(seconds=5)
_MOST_QUESTIONS = 100

_COMMAND = re.compile(r"(?<=: )((?:date|docker|df|dmesg|getent|id|journalctl|ls|roas|ss|systemctl) .+)$")


@dataclass(frozen=True, slots=True)
class Question:
    """Why a person is asked, what was tried before, and what may be done before the usual steps.

    `strategy` is the one whose steps the ticket lists, None for that of the verdict.
    """

    reason: str
    tried: tuple[str, ...] = ()
    first_steps: tuple[str, ...] = ()
    strategy: Strategy | None = None


def question_of(plan: RecoveryPlan, attempts: Sequence[RecoveryExecution]) -> Question:
    """Return the question of a plan that needs a person, with the attempts made at the error."""
    last = f" The last attempt ended with: {attempts[-1].final_status}" if attempts else ""
    tried = tuple(step for attempt in attempts for step in attempt_details(attempt))
    strategy = plan.strategy if not plan.strategy.automatic else None
    return Question(plan.reason + last, tried, plan.first_steps, strategy)


def attempt_details(execution: RecoveryExecution) -> tuple[str, ...]:
    """Return what the steps of an attempt reported."""
    return tuple(step.detail for step in execution.steps if step.detail)


def new_ticket(question: Question, diagnosis: Diagnosis, context: IncidentContext) -> Ticket:
    """Write a question as a ticket, with exact commands and the evidence."""
    now, error, environment = datetime.now(UTC), diagnosis.error, context.environment
    steps = manual_steps(
        replace(diagnosis.verdict, strategy=question.strategy or diagnosis.verdict.strategy),
        service=error.service,
        project=environment.project if environment else error.environment,
        environment=error.environment,
        disk_percent=diagnosis.disk_percent,
        again=diagnosis.again,
        message=diagnosis.said,
        place=_place(context, error.service),
    )
    return Ticket(
        ticket_id=new_ticket_id(now),
        error_id=error.error_id,
        environment=error.environment,
        title=ticket_title(diagnosis.verdict.category, error.service or error.environment, question.reason),
        opened_at=now,
        service=error.service,
        steps=(*question.first_steps, *steps),
        tried=question.tried,
        affected_services=diagnosis.affected,
        evidence=diagnosis.evidence,
        since=error.first_seen,
    )


def _place(context: IncidentContext, service: str | None) -> FilePlace:
    environment, application = context.environment, context.application
    return FilePlace(
        files=() if environment is None else _files_written_by_hand(environment),
        services=tuple(application.services) if application else (),
        declared=application.services.get(service) if application and service else None,
    )


def _files_written_by_hand(environment: Environment) -> list[str]:
    """The files in which a person declared what runs, also those of variables that services name."""
    read = files_read(environment.compose_files) or [str(file.parent / ".env") for file in environment.compose_files]
    files = (*environment.compose_files, *environment.env_files, *map(Path, read))
    return [path for path in dict.fromkeys(str(file.absolute()) for file in files) if Path(path).is_file()]


async def ask_in_own_run(ticket: Ticket, text: str, failed: RecoveryExecution | None) -> None:
    """Start a run that asks about an open ticket, and leave one whose retry repeats the failed step of an attempt.

    Both need a server on which the environment's recovery is deployed; the ticket's history tells what can be retried.
    """
    run = ticket.flow_run_id
    entry: TicketEntry | None = None
    if ticket.state is TicketState.OPEN:
        run = await ask_on_the_server(ticket, text) or run
    if failed is not None:
        retried = await leave_failed_run(failed, text)
        entry = TicketEntry(at=failed.ended_at or failed.started_at, by="roas", what=_how_to_retry(ticket, retried))
    if run != ticket.flow_run_id or entry is not None:
        await let_ticket_wait(ticket.ticket_id, run, entry)


def _how_to_retry(ticket: Ticket, flow_run_id: str | None) -> str:
    command = f"`roas resolve {ticket.ticket_id} --decision {Choice.RETRY}`"
    if flow_run_id is None:
        return f"no run can repeat the failed step: no Prefect server answered that has this recovery; {command} does"
    return f"Retry of run {flow_run_id} in Prefect repeats the failed step, as {command} does"


_SHORTER = {"again": Choice.AGAIN, "rollback": Choice.ROLL_BACK, "resolved": Choice.RESOLVED}
_DECISION = {
    "type": "string",
    "pattern": "^[ ]*("
    + "|".join("".join(f"[{a.upper()}{a}]" if a.isalpha() else "[ -]" for a in word) for word in (*Choice, *_SHORTER))
    + ")[ .]*$",
}
"""The decisions as they may be typed: JSON Schema has no pattern that ignores case."""


def _as_choice(typed: object) -> object:
    """The decision that was typed: case, hyphens, and what stands around it do not count."""
    if not isinstance(typed, str):
        return typed
    word = typed.strip(" .").replace("-", " ").lower()
    return _SHORTER.get(word, word)


class Answer(RunInput):
    """What a person decides about a ticket. Every field is asked for: no decision is made by default."""

    # Typed, not chosen: in the older UI of Prefect 3.9 a list opens in a short form only, and that of a ticket is long.
    choice: Annotated[Choice, BeforeValidator(_as_choice), WithJsonSchema(_DECISION)] = Field(
        title="Decision",
        description=(
            "One of these words: **retry** (repeat the step that failed, or start and prove what you have mended), "
            "**again from the start** (repeat the whole recovery), "
            "**roll back** (to the release proven before), **resolved by hand** (it is mended), "
            "**skip** (leave it as it is), **give up** (end this run as failed)."
        ),
    )
    note: str = Field(
        title="Note", min_length=1, description="Why, or what mended it; shown when the same cause returns."
    )
    by: str = Field(title="Your name", min_length=1, description="Who decides; kept in the ticket's history.")


def may_ask() -> bool:
    """Whether this run may wait for a person: one of a deployment, which can be begun again from the top."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and run.deployment_id is not None and run.parent_task_run_id is None


class Conversation:
    """Questions and answers of one run, in whichever process it runs now."""

    def __init__(self, flow_run_id: str) -> None:
        self._run = UUID(flow_run_id)
        self._settled: set[str] = set()
        self._last = ""

    async def answer(self, about: str, ticket: Ticket) -> Answer | None:
        """Return the answer to the last question about an attempt; None if the run was retried after it.

        Without an open question this asks one: the process ends, and the run begins again once it is resumed.
        """
        base = about.replace("#", "-")
        answers, followed = await self._ask_all(base)
        last = len(answers) - 1
        if last >= 0 and (key := f"{base}-{last}") not in self._settled:
            self._settled.add(key)
            self._last = key
            await let_ticket_wait(ticket.ticket_id, None)
            answer = answers[last]
            return None if last in followed or answer is None else await self._without_secrets(answer, ticket)
        await let_ticket_wait(ticket.ticket_id, str(self._run))
        question = question_about(await asyncio.to_thread(read_ticket_details, ticket.ticket_id))
        await acreate_markdown_artifact(
            question, key=artifact_key("ticket", ticket.ticket_id), description=ticket.title
        )
        log.info("the run waits for an answer to ticket %s", ticket.ticket_id)
        try:
            await suspend_flow_run(  # type: ignore[misc]
                wait_for_input=Answer.with_initial_data(description=question),
                key=f"{base}-{last + 1}",
                timeout=int(WAITS.total_seconds()),
            )
        except Pause:
            # The process may send one more heartbeat before it ends; after the suspension that would make the silence
            # that follows look like a death.
            resource = {"prefect.resource.id": f"prefect.flow-run.{self._run}"}
            emit_event(SUSPENDED, resource, datetime.now(UTC) + _ENDS_WITHIN)
            raise
        return None

    async def _without_secrets(self, answer: Answer, ticket: Ticket) -> Answer:
        """Return the answer without secrets, and replace the typed one on the server."""
        note, by = [await redact(ticket.environment, words) for words in (answer.note, answer.by)]
        clean = answer.model_copy(update={"note": note, "by": by})
        if clean != answer:
            key = f"suspended-{self._last}-response"
            async with get_client() as client:
                await client.delete_flow_run_input(self._run, key)
                await client.create_flow_run_input(self._run, key, json.dumps(clean.model_dump(mode="json")))
        return clean

    async def mark_followed(self) -> None:
        """Mark the last answer as recorded on the server: from then on a retry of the run means to try again."""
        try:
            async with get_client() as client:
                await client.create_flow_run_input(self._run, f"followed-{self._last}", "true")
        except PrefectHTTPStatusError as error:
            # Marked already, by a process of this run that ended right after it.
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise

    async def _ask_all(self, base: str) -> tuple[list[Answer | None], frozenset[int]]:
        """Return the answers to the questions about an attempt, in order, and which of them were followed."""
        prefix, after = f"suspended-{base}-", f"followed-{base}-"
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(self._run, prefix, _MOST_QUESTIONS, set())
            marks = await client.filter_flow_run_input(self._run, after, _MOST_QUESTIONS, set())
        reported = {entry.key.removeprefix(prefix): entry for entry in inputs}
        answers: list[Answer | None] = []
        while f"{len(answers)}-schema" in reported:
            response = reported.get(f"{len(answers)}-response")
            answers.append(None if response is None else Answer(**response.decoded_value))
        numbers = [mark.key.removeprefix(after) for mark in marks]
        return answers, frozenset(int(number) for number in numbers if number.isdigit())


def question_about(details: TicketDetails) -> str:
    """Write the question to a person, as Prefect's UI shows it."""
    ticket, error = details.ticket, details.error
    shown, answered = f"`roas tickets {ticket.ticket_id}`", f"`roas resolve {ticket.ticket_id} --decision … --note …`"
    since = ticket.since or error.first_seen
    facts = [f"**Since** {since:%Y-%m-%d %H:%M:%S} UTC, seen {error.how_often}"]
    if ticket.affected_services:
        facts.append(f"**Affected** {', '.join(ticket.affected_services)}")
    if details.first_cause:
        facts.append(f"**Seen** {details.first_cause}")
    log_lines = [f"{_clock(line.at)}{line.service}: {line.text}" for line in details.lines]
    return "\n".join(
        [
            f"**{ticket.title}**",
            "",
            *_list_lines("", facts),
            *([fenced_block(log_lines), ""] if log_lines else []),
            *_list_lines("What was answered before", earlier_answers(ticket.history)),
            *_list_lines("What was tried", ticket.tried),
            *_list_lines("What to try", [_COMMAND.sub(r"`\1`", step) for step in ticket.steps], numbered=True),
            f"Ticket {ticket.ticket_id}. From a terminal: {shown}, {answered}",
        ]
    )


def _list_lines(title: str, lines: Sequence[str], *, numbered: bool = False) -> list[str]:
    marks = (f"{number}." for number in range(1, len(lines) + 1)) if numbered else ["-"] * len(lines)
    listed = [f"{mark} {line}" for mark, line in zip(marks, lines, strict=True)]
    return [*([f"**{title}**", ""] if title and listed else []), *listed, *([""] if listed else [])]


def _clock(at: datetime | None) -> str:
    return f"{at:%H:%M:%S} " if at else ""
