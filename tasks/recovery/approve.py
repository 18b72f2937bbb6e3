"""Runs that wait for a person's answer, on whichever Prefect server this process talks to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

import httpx
from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Completed, Failed

from models.recovery import RecoveryExecution, RecoveryStep, Ticket
from tasks.runtime.plain_tasks import has_server

log = logging.getLogger("roas")

_ANSWER_SECONDS = 10
"""A client whose server is away tries for a minute; a recovery has no time for that."""

ASKING_FLOW = "error-recovery"
"""The flow whose deployment named after the environment asks a person."""


class AnswerResult(StrEnum):
    """Result of giving an answer to a run."""

    TAKEN = "the run goes on with it"
    TOO_LATE = "the run has another answer already"
    NO_RUN_WAITS = "no run waits for it"


async def ask_on_the_server(ticket: Ticket, text: str) -> str | None:
    """Start a run that asks a person about a ticket, unless one does already. Return its id, else None.

    Only where the environment's recovery is deployed, as by `roas serve`: elsewhere the ticket waits for
    `roas resolve` alone.
    """
    if not has_server():
        return None
    async with _server(f"ticket {ticket.ticket_id} is not asked about in the UI") as client:
        earlier = await _run(client, ticket.flow_run_id)
        if earlier is not None and not _is_over(earlier):
            return str(earlier.id)
        # Two processes that open the ticket at one moment begin one run.
        key = f"{ticket.ticket_id}:{len(ticket.history)}:{ticket.flow_run_id or ''}"
        begun = await _new_run(
            client, ticket.environment, ticket.service, key, tags=["ticket"], text=text, ticket=ticket.ticket_id
        )
        return str(begun.id)
    return None


async def leave_failed_run(attempt: RecoveryExecution, text: str) -> str | None:
    """Leave a run of a failed attempt that no run has, with its steps as task runs. Return its id, else None.

    It is Failed, and its retry repeats the step that failed. Only where the environment's recovery is deployed.
    """
    if not has_server():
        return None
    async with _server(f"the failed step of recovery {attempt.attempt_id} is not retried in the UI") as client:
        run = await _new_run(
            client,
            attempt.environment,
            attempt.service,
            str(attempt.attempt_id),
            # It does not run before its retry, so the flow gives it no name.
            name=f"recover {attempt.service} of {attempt.environment}",
            state=Failed(message=attempt.final_status),
            text=text,
            attempt=attempt.attempt_id,
        )
        if run.run_count == 0:
            for number, step in enumerate(attempt.steps):
                _show_step(run.id, number, step)
        return str(run.id)
    return None


async def _new_run(
    client: PrefectClient,
    environment: str,
    service: str | None,
    key: str,
    *,
    name: str | None = None,
    state: State[Any] | None = None,
    tags: Sequence[str] = (),
    **parameters: str | None,
) -> FlowRun:
    """Create a run of the environment's recovery, or return the one that has this key."""
    deployment = await client.read_deployment_by_name(f"{ASKING_FLOW}/{environment}")
    typed = {"environment": environment, "service": service} | parameters
    return await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={parameter: value for parameter, value in typed.items() if value},
        name=name,
        state=state,
        tags=[environment, *tags],
        idempotency_key=key,
    )


def _show_step(run_id: UUID, number: int, step: RecoveryStep) -> None:
    """Show a recorded step as a task run: by such an event the server learns of each, with the times in it."""
    task_run_id, ended_at = uuid5(run_id, str(number)), step.ended_at or step.started_at
    state: State[Any] = Completed(message=step.detail) if step.ok else Failed(message=step.detail)
    emit_event(
        f"prefect.task-run.{state.name}",
        {
            "prefect.resource.id": f"prefect.task-run.{task_run_id}",
            "prefect.resource.name": f"{step.name} {step.target}",
            "prefect.orchestration": "client",
        },
        occurred=ended_at,
        related=[{"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}],
        payload={
            "validated_state": {"type": state.type.value, "name": state.name, "message": state.message},
            "task_run": {
                "name": f"{step.name} {step.target}",
                "task_key": f"recovery step: {step.name}",
                "dynamic_key": str(task_run_id),
                "run_count": 1,
                "expected_start_time": step.started_at.isoformat(),
                "start_time": step.started_at.isoformat(),
                "end_time": ended_at.isoformat(),
                "total_run_time": (ended_at - step.started_at).total_seconds(),
            },
        },
        id=uuid5(task_run_id, "state"),
    )


async def resume_with(flow_run_id: str, answer: dict[str, str]) -> AnswerResult:
    """Give a suspended run its answer."""
    async with _server(f"run {flow_run_id} could not be asked") as client:
        run = await _run(client, flow_run_id)
        if run is None or run.state is None or _is_over(run) or (run.state.is_scheduled() and run.run_count == 0):
            return AnswerResult.NO_RUN_WAITS
        if not run.state.is_paused():
            return AnswerResult.TOO_LATE
        result = await client.resume_flow_run(run.id, run_input=answer)
        # The server answers a refusal like an acceptance; only the status tells them apart.
        return AnswerResult.TAKEN if result.status == SetStateStatus.ACCEPT else AnswerResult.TOO_LATE
    return AnswerResult.NO_RUN_WAITS


async def cancel_run(flow_run_id: str, why: str) -> None:
    """End a run that waits for an answer which is no longer needed."""
    if not has_server():
        return
    async with _server(f"run {flow_run_id} waits on") as client:
        run = await _run(client, flow_run_id)
        if run is not None and run.state is not None and (run.state.is_paused() or run.state.is_scheduled()):
            await client.set_flow_run_state(run.id, Completed(message=why), force=True)


async def _run(client: PrefectClient, flow_run_id: str | None) -> FlowRun | None:
    """A run as the server knows it; None where it was another server's."""
    try:
        return await client.read_flow_run(UUID(flow_run_id)) if flow_run_id else None
    except ObjectNotFound:
        return None


def _is_over(run: FlowRun) -> bool:
    return run.state is None or run.state.is_final()


@asynccontextmanager
async def _server(without: str) -> AsyncIterator[PrefectClient]:
    """Yield a client; log where the server does not know the object or does not answer, and skip the rest."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), get_client() as client:
            yield client
    except ObjectNotFound:
        log.debug("%s: nothing is deployed there", without)
    except (PrefectHTTPStatusError, httpx.HTTPError, OSError) as error:
        log.info("%s: %s", without, error or type(error).__name__)
