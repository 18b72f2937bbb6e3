"""Error recovery: diagnose an incident, then recover within the budgets or escalate to a person; record all of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Failed
from pydantic import Field

from core.common.dependencies import dependencies_of
from flows.common.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, Count, EnvironmentName
from flows.common.requester import asker_through_server, requester
from flows.recovery.approve import Conversation, may_ask
from flows.recovery.diagnose import Diagnosis, IncidentContext, diagnose, health_now, not_needed
from flows.recovery.process import Decided, RecoveryProcess
from models.compose import Application
from models.errors import CAUSED_BY, Category, RecordedError
from models.failures import BadInputError, GivenUpError, RoasError
from models.health import UNHEALTHY_STATES, ServiceHealth
from models.incidents import Incident
from models.recovery import Choice, RecoveryExecution, RecoveryMethod, RecoveryOutcome, Ticket, TicketEntry, TicketState
from tasks.deployment.belonging import refuse_elsewhere
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import read_application
from tasks.errors.evidence import show_evidence
from tasks.errors.redact import redact
from tasks.monitoring.events import is_watched
from tasks.recovery.approve import ASKING_FLOW
from tasks.recovery.notify import notify_where_asked
from tasks.recovery.records import (
    cut_off_recoveries,
    keep_reason,
    read_attempt,
    read_error,
    read_patterns,
    read_ticket,
    record_answer,
    resolve_error,
)
from tasks.recovery.stops import stop_of
from tasks.runtime.clients import refuse_compose_files_of_deployments
from tasks.runtime.project import Project, load_project
from tasks.runtime.traces import describe_span, span

log = logging.getLogger("roas")


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    about = (
        f"{parameters['service']} of {parameters['environment']}"
        if parameters.get("service")
        else parameters["environment"]
    )
    return f"ticket {parameters['ticket']}: {about}" if parameters.get("ticket") else f"recover {about}"


@flow(name=ASKING_FLOW, flow_run_name=_run_name)
async def error_recovery(
    environment: EnvironmentName = ENVIRONMENT,
    text: str = Field(description="The error, as it was printed. Kept on the server as it is: no secret in it."),
    service: str | None = Field(None, description="The service that said it; without it nothing is acted on."),
    act: bool = ACT,
    decided: Choice | None = Field(None, description="What you want done about it, whatever the budgets say."),
    decided_by: str = Field("", description="Who decided that."),
    ticket: str | None = Field(None, description="Ask about this ticket, and do nothing before there is an answer."),
    attempt: str | None = Field(None, description="Repeat the step at which this attempt failed, and those after it."),
    deployment_id: str | None = Field(None, description="The operation in which it happened."),
    source: str = Field("person", description="Who saw it: person, watch, collection, prediction or event."),
    predictive: bool = Field(False, description="On: it has not happened yet."),
    failing_services: Count = Field(
        1, description="How many services fail at once; several have one cause, so none is acted on."
    ),
    compose_files: ComposeFiles = COMPOSE_FILES,
) -> RecoveryOutcome:
    """Find the cause of an error, and recover from it or open a ticket.

    A run of a deployment is suspended where a person must decide, and continues with the answer. If the person gives
    up, the run ends as failed; Retry then repeats the failed step and the steps after it. An attempt that failed
    elsewhere, such as one of the agent, leaves a failed run of this `attempt`, whose Retry does the same. `act` False
    diagnoses and records only.

    Raises:
        BadInputError: A run of a deployment names Compose files.
        WrongHostError: The environment belongs to another host.
    """
    files = tuple(compose_files or ())
    refuse_compose_files_of_deployments(files)
    await refuse_elsewhere(environment)
    incident = Incident(
        environment=environment,
        text=await redact(environment, text, files),
        source=source,
        service=service,
        deployment_id=deployment_id,
        predictive=predictive,
        failing_services=failing_services,
    )
    context = await load_context(environment, files)
    try:
        if ticket is not None:
            return await _recover_ticket(await read_ticket(ticket), context)
        if attempt is not None:
            return await _repeat(await read_attempt(attempt), context)
        if source == "event" and (reason := await _not_needed(incident, context)) is not None:
            log.info("nothing is done for %s: %s", service, reason)
            return not_needed(reason)
        # A run that was suspended begins again from the top, also where the service is healthy by then.
        is_new = source == "person" and decided is None and flow_run.get_run_count() <= 1
        if is_new and act:
            cut_off = [
                execution
                for execution in await cut_off_recoveries(environment)
                if service and execution.service == service
            ]
            if cut_off:
                # How that attempt ends says more than a second one beside it.
                return await continue_recovery(cut_off[0], context)
        if is_new and (reason := await _only_said(incident, context)) is not None:
            return not_needed(reason)
        by_person = (decided, requester(decided_by)[0]) if decided else None
        # What a person asks about without acting on it is no failure that waits for somebody.
        ask = act or source != "person"
        outcome = await recover(incident, context, act=act, ask=ask, decided=by_person, converse=may_ask())
        if not ask and (await read_error(outcome.error_id)).count == 1:
            await resolve_error(outcome.error_id, datetime.now(UTC), "a dry run asked what would be done")
        if deployment_id is None:
            # An operation sends its notifications itself, once it has ended.
            await notify_where_asked(context.environment)
        return outcome
    except GivenUpError as given_up:
        # Raised out of the flow it would be logged with a traceback, as if it were a defect.
        return Failed(message=str(given_up))  # type: ignore[return-value]


async def recover_observed(
    *,
    environment: str,
    text: str,
    service: str | None,
    source: str,
    act: bool = True,
    predictive: bool = False,
    failing_services: int = 1,
    compose_files: Sequence[str] = (),
) -> RecoveryOutcome:
    """Recover from what monitoring saw, as `error_recovery` does, without a flow run."""
    files = tuple(compose_files)
    incident = Incident(
        environment=environment,
        text=await redact(environment, text, files),
        source=source,
        service=service,
        predictive=predictive,
        failing_services=failing_services,
    )
    context = await load_context(environment, files)
    outcome = await recover(incident, context, act=act)
    await notify_where_asked(context.environment)
    return outcome


async def recover(
    incident: Incident,
    context: IncidentContext,
    *,
    act: bool = True,
    ask: bool = True,
    decided: Decided | None = None,
    converse: bool = False,
) -> RecoveryOutcome:
    """Recover from an incident within the caller's run, which has read its context already.

    Without `ask` no ticket is opened. With `converse` the run is suspended where a person must decide: only for a run
    that does nothing else. An attempt may run into the root cause, which is then an incident of its own and recovered
    instead.
    """
    with span("diagnose", environment=incident.environment, service=incident.service):
        diagnosis = await diagnose(incident, context, of_the_run=converse)
        error, verdict = diagnosis.error, diagnosis.verdict
        describe_span(error_id=error.error_id, category=str(verdict.category), deployment_id=error.deployment_id)
    if diagnosis.verdict.category is Category.BENIGN:
        await keep_reason(diagnosis.error.error_id, f"it is no error: {diagnosis.verdict.reason}")
        return not_needed(diagnosis.verdict.reason, diagnosis.error.error_id)
    process = RecoveryProcess(
        context=context,
        diagnosis=diagnosis,
        acting=act,
        asking=ask,
        failing_services=incident.failing_services,
        causes=(*incident.causes, diagnosis.verdict.category),
        converses=converse,
    )
    outcome = (await process.already_resolved() if converse else None) or await process.run(decided)
    if diagnosis.unpublished:
        # The page waits until now, since the service was down.
        await show_evidence(incident.environment, diagnosis.unpublished)
    if process.root_cause is not None:
        return await _recover_root_cause(incident, context, process, act=act)
    return await _ask_until_decided(process, outcome) if converse else outcome


async def _recover_root_cause(
    incident: Incident, context: IncidentContext, process: RecoveryProcess, *, act: bool
) -> RecoveryOutcome:
    error_id, text = process.error.error_id, process.root_cause or ""
    log.info("what error %s came of was found in the attempt: %s", error_id, text)
    cause = replace(incident, text=text, evidence=tuple(process.root_evidence), causes=process.causes)
    outcome = await recover(replace(cause, predictive=False, failing_services=1), context, act=act)
    if outcome.error_id != error_id:
        await resolve_error(error_id, datetime.now(UTC), f"{CAUSED_BY}{outcome.error_id}")
    return outcome


async def record_failure(incident: Incident, context: IncidentContext) -> RecordedError:
    """Record a failure that the engine recovers by itself, with its cause and evidence."""
    diagnosis = await diagnose(incident, context)
    await keep_reason(diagnosis.error.error_id, "the engine starts it again by itself")
    return diagnosis.error


async def continue_recovery(execution: RecoveryExecution, context: IncidentContext) -> RecoveryOutcome:
    """Continue an attempt whose runner has died; its finished steps are not repeated."""
    return await (await _process_of(execution, context)).run()


async def _repeat(attempt: RecoveryExecution, context: IncidentContext) -> RecoveryOutcome:
    """Repeat the failed step of an attempt that another process began; fail unless the service recovers by it."""
    process = await _process_of(attempt, context)
    if (resolved := await process.already_resolved()) is not None:
        return resolved
    outcome = await process.repeat(attempt.attempt_id)
    await notify_where_asked(context.environment)
    if outcome.method is RecoveryMethod.AUTOMATIC:
        return outcome
    return await process.already_resolved() or Failed(message=outcome.reason)  # type: ignore[return-value]


async def _process_of(attempt: RecoveryExecution, context: IncidentContext) -> RecoveryProcess:
    error = await read_error(attempt.error_id)
    diagnosis = Diagnosis(error=error, verdict=error.verdict, detected_at=attempt.detected_at or error.first_seen)
    return RecoveryProcess(context=context, diagnosis=diagnosis, causes=(error.verdict.category,))


async def _recover_ticket(ticket: Ticket, context: IncidentContext) -> RecoveryOutcome:
    """Ask about a ticket that another run opened, and do what the person decides."""
    # A run that ended as given up and is retried with the button of its page is to try again.
    is_over = ticket.state is TicketState.RESOLVED or flow_run.get_run_count() == 1
    if ticket.state is not TicketState.OPEN and is_over:
        last = ticket.history[-1].what if ticket.history else ""
        reason = f"ticket {ticket.ticket_id} is {ticket.state} meanwhile: {last}"
        return replace(not_needed(reason, ticket.error_id), ticket_id=ticket.ticket_id)
    error, patterns = await read_error(ticket.error_id), await read_patterns()
    process = RecoveryProcess(
        context=context,
        diagnosis=Diagnosis(
            error=error,
            verdict=error.verdict,
            detected_at=error.first_seen,
            affected=ticket.affected_services,
            evidence=ticket.evidence,
            script=patterns.script_of(error.verdict.pattern_name),
        ),
        causes=(error.verdict.category,),
        converses=True,
    )
    outcome = await process.resume() or process.waits_for_answer(ticket, ticket.title)
    return await _ask_until_decided(process, outcome)


async def _ask_until_decided(process: RecoveryProcess, outcome: RecoveryOutcome) -> RecoveryOutcome:
    """Ask a person, and do what is decided, until nothing is left to ask.

    Raises:
        GivenUpError: The person gave up.
    """
    conversation = Conversation(process.runner.flow_run_id)
    while outcome.method is RecoveryMethod.MANUAL_REQUIRED and outcome.ticket_id is not None:
        ticket = await read_ticket(outcome.ticket_id)
        # The run is suspended now, perhaps for days.
        await notify_where_asked(process.context.environment)
        answer = await conversation.answer(process.last_attempt or outcome.error_id, ticket)
        if answer is None:
            # The run was retried with the button of its page: only the failed step is repeated.
            outcome = await process.repeat()
            continue
        by, actor = asker_through_server(answer.by)
        entry = TicketEntry(at=datetime.now(UTC), by=by, what=f"{answer.choice}: {answer.note}", actor=actor)
        await record_answer(ticket, answer.choice, entry)
        await conversation.mark_followed()
        log.info("%s decided about ticket %s: %s", by, ticket.ticket_id, entry.what)
        if answer.choice is Choice.GIVE_UP:
            raise GivenUpError(ticket.ticket_id, by, answer.note)
        if not answer.choice.acts:
            return replace(outcome, success=answer.choice is Choice.RESOLVED, reason=f"{by} decided: {entry.what}")
        outcome = await process.run((answer.choice, by))
    return outcome


def context_of(project: Project, application: Application | None, compose_files: Sequence[str] = ()) -> IncidentContext:
    """Return the context of an incident in an environment that was read already."""
    return IncidentContext(
        project=project,
        application=application,
        dependencies=tuple(dependencies_of(project.environment, application)) if application else (),
        compose_files=tuple(compose_files),
    )


async def load_context(environment: str, compose_files: tuple[str, ...]) -> IncidentContext:
    """Read the environment and its application; None for what cannot be read, since that may be the error."""
    try:
        project = await load_project(environment, compose_files)
    except BadInputError:
        return IncidentContext(project=None, application=None, compose_files=compose_files)
    try:
        return context_of(project, await read_application(project), compose_files)
    except RoasError as error:
        log.info("dependencies of %s are not known: %s", environment, error)
        return context_of(project, None, compose_files)


async def _only_said(incident: Incident, context: IncidentContext) -> str | None:
    """Return why a line that somebody reports of a service is no error: the service is healthy; None if it is one."""
    if context.project is None or context.application is None or incident.service is None:
        return None
    health = await health_now(context, probed_services=[incident.service])
    verdict = (
        next((candidate for candidate in health.services if candidate.service == incident.service), None)
        if health
        else None
    )
    if verdict is None or verdict.health not in (ServiceHealth.HEALTHY, ServiceHealth.COMPLETED):
        return None
    return f"{incident.service} is {verdict.health} ({verdict.reason}), and a line alone is no error"


async def _not_needed(incident: Incident, context: IncidentContext) -> str | None:
    """Return why an event some seconds ago needs no recovery now; None if it does."""
    project, service = context.project, incident.service
    if project is None or context.application is None or service is None:
        return None
    if await is_watched(project.environment.name, datetime.now(UTC)):
        return f"the watch of {project.environment.name} recovers it"
    if not await is_meant_to_run(project.environment.name):
        return "it was stopped on request"
    if (stop := await stop_of(project, service)) is not None:
        return stop.reason
    health = await health_now(context, probed_services=[service])
    verdict = (
        next((candidate for candidate in health.services if candidate.service == service), None) if health else None
    )
    return f"it is {verdict.health} now" if verdict is not None and verdict.health not in UNHEALTHY_STATES else None
