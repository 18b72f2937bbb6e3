"""Tools of `roas mcp` that read: each reads what the command of the same name prints."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from pydantic import Field

from cli.mcp_answers import AgentTool, Found, Input, PageInput, page_of, run_in_thread
from cli.options import known_environment, moment_or_age, resolve_names
from cli.run_flow import opened_stores
from core.deployment.source import SyncPlan
from models.compose import ALL_IMAGES, OF_UPDATE, FetchOptions, Plan
from models.evidence import EvidenceBundle
from models.failures import BadInputError, NotFoundError
from models.health import ServiceHealth
from models.logs import LogQuery
from models.metrics import Alert, AlertState, Prediction
from models.operations import Operation
from models.postmortem import Postmortem
from models.records import (
    ContainerLog,
    DeploymentDetails,
    EnvironmentStatus,
    Explanation,
    ReleaseDetails,
    TicketDetails,
)
from models.recovery import Ticket, TicketState
from models.results import DriftReport
from models.scheduled_runs import ScheduleView
from models.sizes import SizeReport

if TYPE_CHECKING:
    from tasks.runtime.project import Project

_ENVIRONMENT = "Name of an environment, as `status` lists them."
_MOST_OF_A_LOG = 40_000
_WELL = frozenset({ServiceHealth.HEALTHY, ServiceHealth.COMPLETED})


class _OfAll(Input):
    environment: str | None = Field(default=None, description=f"{_ENVIRONMENT} Without it, all.")


class _OfOne(Input):
    environment: str = Field(description=_ENVIRONMENT)


class _Plan(_OfOne):
    update: bool = Field(default=False, description="The plan of an update, with new images.")


class _PageOfAll(PageInput):
    environment: str | None = Field(default=None, description=f"{_ENVIRONMENT} Without it, all.")


class _ResolvedToo(_PageOfAll):
    resolved_too: bool = Field(default=False, description="Include those that are resolved.")


class _Days(_PageOfAll):
    days: int = Field(default=30, ge=1, le=3650, description="How far to look back.")


class _Releases(PageInput):
    environment: str = Field(description=_ENVIRONMENT)
    limit: int = Field(default=5, ge=1, le=20, description="How many releases.")


class _Id(Input):
    id: str = Field(min_length=1, description="The id, or its first letters.")


class _Failure(Input):
    environment: str | None = Field(
        default=None, min_length=1, description="An environment: its latest failure. Without it, the latest of all."
    )
    id: str | None = Field(
        default=None, min_length=1, description="An operation's id or its first letters, in place of an environment."
    )


class _Evidence(PageInput, _Failure):
    limit: int = Field(default=3, ge=1, le=20, description="How many bundles.")


class _Logs(Input):
    environment: str = Field(description=_ENVIRONMENT)
    service: str | None = Field(default=None, description="One service; without it, all.")
    since: str | None = Field(
        default=None, description="Only lines since then: 10m, 2h, or an ISO time, of UTC without a zone."
    )
    pattern: str = Field(default="", description="Only lines that match a regular expression (RE2).")
    ignore_case: bool = Field(default=False, description="Let `pattern` take no notice of capital letters.")
    lines: int = Field(default=50, ge=1, le=200, description="How many lines of each container.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWithId:
    """What a start or an update would do, and the id that `start` or `update` takes to do exactly this."""

    plan_id: str
    plan: Plan


def _open(name: str) -> Project:
    from tasks.runtime.project import open_project

    name, compose = resolve_names(name, (), None)
    return open_project(name, tuple(compose or ()))


def _status(params: _OfAll) -> Found:
    from tasks.reporting.read import read_status

    statuses = read_status(known_environment(params.environment))
    return Found(value=statuses if params.environment is not None else [_brief(status) for status in statuses])


def _brief(status: EnvironmentStatus) -> EnvironmentStatus:
    """What an agent needs to choose where to look: what is wrong, without the details that each row was judged by."""
    health = status.health
    if health is not None:
        unhealthy_services = tuple(service for service in health.services if service.health not in _WELL)
        health = replace(health, services=tuple(replace(service, probes=()) for service in unhealthy_services))
    return replace(
        status,
        health=health,
        last_operation=replace(status.last_operation, details={}),
        running=tuple(replace(operation, details={}) for operation in status.running),
        open_errors=tuple(replace(error, evidence={}) for error in status.open_errors),
        open_tickets=tuple(
            replace(ticket, steps=(), tried=(), history=(), evidence=()) for ticket in status.open_tickets
        ),
        scores=(),
        dependencies=status.missing,
    )


def _history(params: _PageOfAll) -> Found:
    limit = params.offset + params.limit + 1
    name = known_environment(params.environment)
    return page_of(opened_stores().operations.history(environment=name, limit=limit), params)


def _show(params: _Id) -> Found:
    from tasks.reporting.read import read_deployment

    return Found(value=read_deployment(params.id))


def _why(params: _Failure) -> Found:
    from tasks.reporting.read import read_explanation

    return Found(value=read_explanation(params.id or params.environment))


def _evidence(params: _Evidence) -> Found:
    from tasks.reporting.read import read_evidence, read_explanation

    return page_of(read_evidence(read_explanation(params.id or params.environment).deployment_id), params)


def _postmortem(params: _Id) -> Found:
    from core.reporting.postmortem import write_postmortem
    from tasks.reporting.postmortem import read_failure

    return Found(value=write_postmortem(read_failure(params.id)))


def _logs(params: _Logs) -> Found:
    from tasks.reporting.logs import search_logs

    query = LogQuery(
        services=(params.service,) if params.service else (),
        lines=params.lines,
        since=None if params.since is None else _moment(params.since),
        pattern=params.pattern,
        ignore_case=params.ignore_case,
    )
    container_logs = list(search_logs(_open(params.environment), query).logs)
    if not container_logs:
        raise NotFoundError(
            f"There is no log of {params.service or params.environment}: it has no container, and no evidence was kept."
        )
    lines = params.lines
    # The last lines say most, so the first ones go.
    while lines > 1 and sum(len(line) for log in container_logs for line in log.lines) > _MOST_OF_A_LOG:
        lines //= 2
        container_logs = [replace(log, lines=log.lines[-lines:]) for log in container_logs]
    return Found(value=container_logs)


def _moment(text: str) -> datetime:
    try:
        return moment_or_age(text, datetime.now(UTC))
    except click.BadParameter as error:
        raise BadInputError(error.message) from error


def _plan(params: _Plan) -> Found:
    from core.deployment.plan import plan_id
    from tasks.deployment.services import read_plan

    options = OF_UPDATE if params.update else FetchOptions()
    plan = read_plan(_open(params.environment), options)
    return Found(value=PlanWithId(plan_id=plan_id(plan), plan=plan))


def _plan_sync(params: _OfOne) -> Found:
    from flows.source.preview import preview_sync

    return Found(value=asyncio.run(preview_sync(_open(params.environment))))


def _drift(params: _OfOne) -> Found:
    from core.deployment.desired_state import should_run
    from core.deployment.plan import drift, updates
    from tasks.deployment.services import read_plan

    project = _open(params.environment)
    plan, name = read_plan(project), project.environment.name
    stopped = not should_run(opened_stores().operations.latest_recorded(name))
    report = DriftReport(
        environment=name,
        seen_at=datetime.now(UTC),
        services=() if stopped else drift(plan),
        orphans=plan.orphans,
        stopped=stopped,
        updates=updates(read_plan(project, ALL_IMAGES)),
    )
    return Found(value=report)


def _releases(params: _Releases) -> Found:
    from tasks.reporting.read import read_releases

    return page_of(read_releases(str(known_environment(params.environment))), params)


def _schedules(params: _OfAll) -> Found:
    from adapters.config.environment_files import known_environments
    from models.settings import current_settings
    from tasks.runtime.clients import find_environment
    from tasks.schedules.runs import read_schedules

    name = known_environment(params.environment)
    names = [name] if name is not None else known_environments(current_settings())
    return Found(value=read_schedules([find_environment(each) for each in names], datetime.now(UTC)))


def _sizes(params: _OfOne) -> Found:
    from tasks.reporting.sizes import read_sizes

    return Found(value=read_sizes(_open(params.environment).environment, (), datetime.now(UTC)))


def _alerts(params: _ResolvedToo) -> Found:
    name, limit = known_environment(params.environment), 10_000
    alerts = opened_stores().alerts.latest(environment=name, limit=limit)
    return page_of([alert for alert in alerts if params.resolved_too or alert.state is not AlertState.RESOLVED], params)


def _predictions(params: _Days) -> Found:
    from tasks.reporting.read import read_predictions

    since = datetime.now(UTC) - timedelta(days=params.days)
    return page_of(read_predictions(known_environment(params.environment), since), params)


def _tickets(params: _ResolvedToo) -> Found:
    tickets = opened_stores().tickets.find(environment=known_environment(params.environment))
    return page_of(
        [ticket for ticket in tickets if params.resolved_too or ticket.state is not TicketState.RESOLVED], params
    )


def _ticket(params: _Id) -> Found:
    from tasks.reporting.read import read_ticket_details

    return Found(value=read_ticket_details(params.id))


def _tool(name: str, description: str, inputs: type[Input], answer: Any, read: Any, *quoted: str) -> AgentTool:
    return AgentTool(name, description, inputs, answer, run_in_thread(read), quoted, reads_only=True)


READING_TOOLS = (
    _tool(
        "status",
        "The current state: last operation, last health, open errors, alerts and tickets. Without `environment` only "
        "what is wrong in each; with it, all details of one.",
        _OfAll, list[EnvironmentStatus], _status,
        "[].last_operation.details", "[].health.services[].reason", "[].health.findings", "[].open_errors[].text",
        "[].open_tickets[]", "[].open_alerts[].reason", "[].open_alerts[].note",
    ),
    _tool(
        "why",
        "Why an operation ended as it did: first cause, the lines that show it, what followed, what was tried, and the "
        "next commands.",
        _Failure, Explanation, _why, ".headline", ".because", ".lines[].text", ".consequences", ".changed", ".tried",
    ),
    _tool(
        "evidence",
        "The evidence stored at a failure, a bundle for each service: containers, log lines, probe results, engine "
        "events, host.",
        _Evidence, list[EvidenceBundle], _evidence,
        "[].reason", "[].first_cause", "[].containers", "[].logs[].lines", "[].probes", "[].events",
    ),
    _tool(
        "postmortem",
        "A post-mortem of an operation, an error or a ticket: timeline with the row of each event, cause, impact, "
        "attempts, what is open, what to change.",
        _Id, Postmortem, _postmortem,
        ".timeline[].event", ".cause[].text", ".facts[].text", ".lines[].text", ".attempts[].result",
    ),
    _tool(
        "history", "Operations, newest first.", _PageOfAll, list[Operation], _history, "[].details", "[].user_agent"
    ),
    _tool(
        "show",
        "One operation by its id: validation, changes of services, health, errors.",
        _Id, DeploymentDetails, _show,
        ".operation.details", ".validations", ".changes[].reason", ".health", ".errors",
    ),
    _tool(
        "logs",
        "The last log lines of the services, with the engine's times; those of a removed container from the evidence. "
        "`since` and `pattern` search more than the last ones.",
        _Logs, list[ContainerLog], _logs, "[].lines",
    ),
    _tool(
        "plan",
        "What a start would do with each service, and because of which change; changes nothing. `start` takes the "
        "plan's id. With `update` what an update would do, which takes that plan's id.",
        _Plan, PlanWithId, _plan, ".plan.services[].because", ".plan.services[].note", ".plan.release_notes",
    ),
    _tool(
        "plan_sync",
        "What `sync` would do: the revision that the source of an environment refers to now, whether it is taken, and "
        "why; it fetches the repository and changes nothing else. `sync` takes the revision.",
        _OfOne, SyncPlan, _plan_sync, ".reason", ".revision", ".running",
    ),
    _tool(
        "drift",
        "Where running containers differ from their declaration; changes and records nothing.",
        _OfOne, DriftReport, _drift, ".services[].because",
    ),
    _tool(
        "releases",
        "The releases of an environment, newest first, with the changes between them.",
        _Releases, list[ReleaseDetails], _releases, "[].release.compose", "[].release.reason", "[].changes", "[].notes",
    ),
    _tool(
        "schedules",
        "What is done by the clock: when each schedule is due next, and how its last runs went.",
        _OfAll, list[ScheduleView], _schedules, "[].does", "[].runs[].text",
    ),
    _tool(
        "size",
        "Proposed limits and reservations of memory and processors, as a change of the Compose files, with the risk of "
        "each; changes nothing.",
        _OfOne, SizeReport, _sizes, ".diff", ".proposals[].because",
    ),
    _tool(
        "alerts", "Alerts, newest first; `explained_by` names the alert that causes one.",
        _ResolvedToo, list[Alert], _alerts, "[].reason", "[].note",
    ),
    _tool(
        "predictions",
        "Forecasts of metrics that will pass their limits, nearest first, then the outcome of earlier ones.",
        _Days, list[Prediction], _predictions, "[].words",
    ),
    _tool(
        "tickets",
        "Tickets that wait for a user's answer.",
        _ResolvedToo, list[Ticket], _tickets, "[].title", "[].tried", "[].steps", "[].history[].what",
    ),
    _tool(
        "ticket",
        "One ticket by its id: failure, evidence, attempts, and steps to try.",
        _Id, TicketDetails, _ticket,
        ".ticket.title", ".ticket.tried", ".ticket.steps", ".ticket.history[].what", ".error.text", ".first_cause",
        ".lines[].text",
    ),
)  # fmt: skip
