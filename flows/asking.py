"""Ask a person: the run leaves its process and waits in Prefect until it is resumed with an answer."""

from __future__ import annotations

import logging
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from models.recovery import Choice, Ticket
from tasks.recovery import let_ticket_wait

log = logging.getLogger("roas")

_MOST_QUESTIONS = 100


class Answer(RunInput):
    """What a person decides about a ticket. Every field is asked for: no decision is made by default."""

    choice: Choice = Field(description="What is to be done now.")
    note: str = Field(min_length=1, description="Why, or what mended it; offered when the same cause returns.")
    by: str = Field(min_length=1, description="Who decides.")


def may_ask() -> bool:
    """Whether this run may wait for a person: one of a deployment, which can be begun again from the top."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and run.deployment_id is not None and run.parent_task_run_id is None


class Conversation:
    """The questions that one run has asked and the answers it got, whichever process lives it now."""

    def __init__(self, flow_run_id: str) -> None:
        """Nothing is settled yet in this process."""
        self._run = UUID(flow_run_id)
        self._settled: set[str] = set()

    async def answer(self, about: str, ticket: Ticket) -> Answer | None:
        """The answer to the last question about an attempt; None where the run was retried without one.

        Where all that was asked about the attempt is settled, or nothing was asked, this asks: the process
        then ends, and the run begins again from the top once it is resumed.
        """
        base = about.replace("#", "-")
        asked = await self._asked(base)
        last = len(asked) - 1
        if last >= 0 and (key := f"{base}-{last}") not in self._settled:
            self._settled.add(key)
            await let_ticket_wait(ticket.ticket_id, None)
            return asked[last]
        await let_ticket_wait(ticket.ticket_id, str(self._run))
        log.info("the run waits for an answer to ticket %s", ticket.ticket_id)
        await suspend_flow_run(  # type: ignore[misc]
            wait_for_input=Answer.with_initial_data(description=_question(ticket)), key=f"{base}-{last + 1}"
        )
        return None

    async def _asked(self, base: str) -> list[Answer | None]:
        """What was asked about an attempt, in order, each with its answer."""
        prefix = f"suspended-{base}-"
        async with get_client() as client:
            inputs = await client.filter_flow_run_input(self._run, prefix, _MOST_QUESTIONS, set())
        told = {one.key.removeprefix(prefix): one for one in inputs}
        found: list[Answer | None] = []
        while f"{len(found)}-schema" in told:
            response = told.get(f"{len(found)}-response")
            found.append(None if response is None else Answer(**response.decoded_value))
        return found


async def resume_with(flow_run_id: str, answer: Answer) -> bool:
    """Give a suspended run its answer; False where it does not wait for one any more, or no server knows it."""
    given = {"choice": str(answer.choice), "note": answer.note, "by": answer.by}
    try:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(flow_run_id))
            if run.state is None or not run.state.is_paused():
                return False
            result = await client.resume_flow_run(run.id, run_input=given)
    except (ObjectNotFound, PrefectHTTPStatusError, httpx.HTTPError) as error:
        log.info("run %s could not be asked: %s", flow_run_id, error or type(error).__name__)
        return False
    # The server answers a refusal like an acceptance; only the status tells them apart.
    return result.status == SetStateStatus.ACCEPT


def _question(ticket: Ticket) -> str:
    lines = [f"**{ticket.title}**", ""]
    if ticket.since:
        lines.append(f"Since {ticket.since:%Y-%m-%d %H:%M:%S} UTC; error {ticket.error_id}, ticket {ticket.ticket_id}.")
    if ticket.affected_services:
        lines.append(f"Affected: {', '.join(ticket.affected_services)}.")
    if ticket.evidence:
        lines.append(f"Evidence: {', '.join(ticket.evidence)}.")
    lines += [f"- tried: {one}" for one in ticket.tried]
    lines += ["", *(f"{number}. {step}" for number, step in enumerate(ticket.steps, start=1))]
    return "\n".join(lines)
