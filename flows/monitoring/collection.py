"""Collection: sample every source at once, judge, store, and recover from failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from prefect import flow

from core.common.dependencies import dependencies_of
from core.monitoring.assess import SourceAnswers, assess, close_proven, is_predictive
from core.monitoring.measurements import deaths, dependency_status
from core.monitoring.snapshot import Evaluation
from core.recovery.tracker import NO_SERVICE
from flows.common.judge_health import judge_now
from flows.common.parameters import ACT, COMPOSE_FILES, ENVIRONMENT, ComposeFiles, EnvironmentName
from flows.monitoring.failures import Collected, CollectionFeed, Predicted
from models.analysis import AlertChange
from models.failures import EnvironmentBusyError, RoasError
from models.health import UNHEALTHY_STATES, Health, HealthReport
from models.metrics import Alert, AlertSeverity, Metric, PredictionOutcome
from models.records import EvaluationRecord
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.results import CollectionReport
from tasks.deployment.belonging import refuse_elsewhere
from tasks.deployment.operations import mark_interrupted
from tasks.deployment.services import read_containers, read_declarations
from tasks.monitoring.collect import (
    read_memory,
    read_statistics,
    recent_events,
    sample_system,
    store_closed,
    store_round,
    update_cache,
)
from tasks.monitoring.watch_lock import agent_that_watches
from tasks.recovery.notify import notify_where_asked
from tasks.recovery.records import settle_predicted, settle_well
from tasks.runtime.project import Project, load_project
from tasks.runtime.retry_policy import READ
from tasks.runtime.task import task
from tasks.storage.freshness import read_snapshot_problems

log = logging.getLogger("roas")
Answer = TypeVar("Answer")
P = ParamSpec("P")
Source = Callable[P, Coroutine[Any, Any, Answer]]

SCHEDULED_EVERY = timedelta(minutes=5)
"""The schedule in prefect.yaml, which takes the agent's place."""

_TIMES = 3
_LEAST_RECEIVED = timedelta(minutes=2)
"""The engine is asked at least this far back how containers ended: of one that runs again nothing else tells."""

_POOR = 80.0
"""Below this many points a service's score comes with advice."""


def _source(name: str, read: Source[P, Answer], **options: Any) -> Source[P, Answer]:
    """Make a source a task: seen in the collection's run, and in the agent a plain function with the same retries."""
    return task(name=name, **READ | options)(read)


_compose_files = _source("compose files", read_declarations)
_system_metrics = _source("system metrics", sample_system)
_service_metrics = _source("service metrics", read_statistics)
_containers = _source("containers", read_containers)
_engine_events = _source("engine events", recent_events)
_snapshots = _source("snapshots", read_snapshot_problems)
_baselines = _source("performance baselines", read_memory)
# Each probe has its own time limit.
_health = _source("health and dependency status", judge_now, timeout_seconds=None)


@flow(name="collection", flow_run_name="collect {environment}")
async def collection(
    environment: EnvironmentName = ENVIRONMENT, compose_files: ComposeFiles = COMPOSE_FILES, act: bool = ACT
) -> CollectionReport:
    """Collect once. A source that does not answer is a finding of its own; the rest is stored.
    Paused while an agent carries the environment, which does this all the time.

    Raises:
        EnvironmentFileError: The environment cannot be read.
        WrongHostError: The environment belongs to another host.
        StoreError: The collection could not be stored.
        EnvironmentBusyError: Others collect it all the time.
    """
    files = tuple(compose_files or ())
    await refuse_elsewhere(environment)
    # Who reads the snapshot, and what is missed, waits for the next collection; only an agent makes it sooner.
    least = SCHEDULED_EVERY if agent_that_watches(environment) is None else timedelta(0)
    collected = await collect(environment, files, least)
    outcome, declared, answers, gaps = (
        collected.judged.outcome,
        collected.project.environment,
        collected.seen,
        list(collected.seen.gaps),
    )
    for gap in gaps:
        log.warning("%s", gap)
    say(outcome)
    if not gaps and not collected.judged.blind and collected.judged.health.overall is Health.HEALTHY:
        await settle_well(environment, [NO_SERVICE], answers.at, "the engine answers, and no service fails")
    done = [] if collected.judged.idle else await _recover(collected, CollectionFeed(files=files, act=act))
    after, alerts = None, outcome.reported_alerts
    if answers.application is not None and any(recovery.method is RecoveryMethod.AUTOMATIC for recovery in done):
        after = await _or_gap("health after recovery", judge_now(collected.project, answers.application), gaps)
        if after is not None:
            well = {verdict.service for verdict in after.services if verdict.health not in UNHEALTHY_STATES}
            at = after.checked_at
            states, closed = close_proven(outcome, well, at)
            record = EvaluationRecord(
                environment=environment,
                evaluated_at=at,
                states=states,
                alerts=closed,
                dependencies=dependency_status(answers.needs, after.services, at),
                health=after,
            )
            if await store_closed(record, outcome.at):
                over = {alert.alert_id for alert in closed}
                alerts = tuple(alert for alert in alerts if alert.alert_id not in over)
    report = replace(report_of(collected, alerts, done, after), gaps=tuple(gaps))
    await show(collected, report)
    await notify_where_asked(declared)
    then = f", {report.after_recovery} after recovery" if report.after_recovery else ""
    size = len(collected.judged.metrics)
    log.info("%s is %s%s: %d metrics, %d alerts", environment, report.summary, then, size, len(alerts))
    return report


async def collect(environment: str, files: tuple[str, ...], least: timedelta = timedelta(0)) -> Collected:
    """Ask the sources, judge and store. If another process stored a collection meanwhile, repeat it.

    `least` is the time between two collections where they come more seldom than the environment's file says.

    Raises:
        EnvironmentFileError: The environment cannot be read.
        StoreError: The collection could not be stored.
        EnvironmentBusyError: Others collect it all the time.
    """
    project = await load_project(environment, files)
    if (seconds := int(least.total_seconds())) > project.environment.collect_every_seconds:
        project = Project(project.environment.model_copy(update={"collect_every_seconds": seconds}))
    await mark_interrupted(None, datetime.now(UTC))
    for _ in range(_TIMES):
        memory, answers = await asyncio.gather(_baselines(environment, datetime.now(UTC)), ask_sources(project))
        judged = assess(project.environment, answers, memory)
        if await store_round(environment, judged, memory.collected_at):
            await settle_predicted(environment, _services_with_warnings(judged.outcome))
            return Collected(project=project, seen=answers, judged=judged)
    raise EnvironmentBusyError(
        f"{environment} was collected by others {_TIMES} times meanwhile;", advice="is it watched by several servers?"
    )


def _services_with_warnings(outcome: Evaluation) -> frozenset[str]:
    """Return the services, or HOST, of which an open alert or a prediction warns."""
    alerts = {alert.service for alert in outcome.alerts if is_predictive(alert.metric)}
    return frozenset(
        alerts
        | {prediction.service for prediction in outcome.predictions if prediction.outcome is PredictionOutcome.OPEN}
    )


def report_of(
    collected: Collected,
    alerts: Sequence[Alert],
    recoveries: Sequence[RecoveryOutcome] = (),
    after: HealthReport | None = None,
) -> CollectionReport:
    """What one collection saw, and what it led to, for people and programs."""
    judged = collected.judged
    return CollectionReport(
        environment=collected.project.environment.name,
        timestamp=collected.seen.at.isoformat(),
        overall_status="unknown" if judged.blind else str(judged.health.overall),
        metrics=_table(judged.metrics),
        alerts=tuple(f"{alert.severity}: {alert.service}: {alert.reason}" for alert in alerts),
        recommendations=_advice(judged.health, recoveries, judged.outcome),
        gaps=tuple(collected.seen.gaps),
        health=None if judged.blind else judged.health,
        after_recovery=str(after.overall) if after else None,
        recoveries=tuple(recoveries),
    )


async def show(collected: Collected, report: CollectionReport) -> None:
    """Put the newest snapshot where other processes read it at once."""
    trouble = await update_cache(
        report.environment,
        {"timestamp": report.timestamp, "overall_status": report.overall_status, "metrics": report.metrics},
        collected.judged.outcome,
        timedelta(seconds=collected.project.environment.collect_every_seconds),
    )
    if trouble:
        log.warning("the cache did not take the snapshot: %s", trouble)


async def ask_sources(project: Project) -> SourceAnswers:
    """Ask every source at once. One that does not answer is a gap, in words."""
    gaps: list[str] = []
    recently = max(_LEAST_RECEIVED, 3 * timedelta(seconds=project.environment.collect_every_seconds))
    application, system, samples, container_states, events, problems = await asyncio.gather(
        _or_gap("compose files", _compose_files(project, outline=True), gaps),
        _or_gap("host", _system_metrics(project.environment), gaps),
        _or_gap("container statistics", _service_metrics(project), gaps),
        _or_gap("containers", _containers(project), gaps),
        _or_gap("engine events", _engine_events(project, recently), gaps),
        _or_gap("snapshots", _snapshots(project.environment), gaps),
    )
    health = None
    # The engine that did not show its containers is a gap already, in the same words.
    if application is not None and container_states is not None:
        health = await _or_gap("health", _health(project, application, container_states=container_states), gaps)
    return SourceAnswers(
        at=datetime.now(UTC),
        application=application,
        system=system,
        samples=samples,
        container_states=container_states,
        health=health,
        ends=deaths(events or (), container_states or ()),
        needs=dependencies_of(project.environment, application) if application else (),
        gaps=gaps,
        snapshot_problems=problems or (),
    )


async def _or_gap(source: str, doing: Awaitable[Answer], gaps: list[str]) -> Answer | None:
    """The answer of one source, or None and a gap that says why."""
    try:
        return await doing
    except (RoasError, OSError, TimeoutError) as error:
        gaps.append(f"{source}: {error or type(error).__name__}")
        return None


def say(outcome: Evaluation) -> None:
    """One line for each change of an alert and each prediction, as a person reads the log."""
    for event in outcome.events:
        alert, also = event.alert, f" ({len(event.children)} others come of it)" if event.children else ""
        if event.change is AlertChange.RESOLVED:
            log.info("alert over: %s %s", alert.service, alert.metric)
        else:
            log.warning("alert %s: %s %s%s", event.change, alert.service, alert.reason, also)
    for prediction in outcome.predictions:
        log.info("prediction for %s: %s; %s", prediction.service, prediction.words, prediction.outcome)
    for name in outcome.unreadable:
        log.error("state %s could not be read and is begun anew", name)


async def _recover(collected: Collected, feed: CollectionFeed) -> list[RecoveryOutcome]:
    outcomes = await feed.recover(collected, feed.decide(collected))
    return outcomes + await feed.warn(collected.project.environment.name, predicted_failures(collected.judged.outcome))


def predicted_failures(outcome: Evaluation) -> list[Predicted]:
    """Return the failures that are predicted, one a cause."""
    reported = [
        (alert.service, f"{alert.metric} of {alert.service} is not as usual: {alert.reason}", alert.severity)
        for event in outcome.events
        if event.change in (AlertChange.OPENED, AlertChange.RAISED) and is_predictive((alert := event.alert).metric)
    ]
    reported += [
        (
            prediction.service,
            f"{prediction.metric} of {prediction.service} is predicted: {prediction.words}",
            AlertSeverity.WARNING,
        )
        for prediction in outcome.predictions
        if prediction.outcome is PredictionOutcome.OPEN
    ]
    return [(service, text, severity is AlertSeverity.CRITICAL) for service, text, severity in reported]


def _table(metrics: Sequence[Metric]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for metric in metrics:
        table.setdefault(metric.service, {})[metric.name] = metric.value
    return table


def _advice(health: HealthReport, recoveries: Sequence[RecoveryOutcome], outcome: Evaluation) -> tuple[str, ...]:
    """Return findings, steps for a person, and what lowers a service's score; each once."""
    steps = [step for recovery in recoveries if not recovery.success for step in recovery.steps]
    poor = [
        f"{score.service}: {hint}"
        for score in outcome.current_scores
        if score.score is not None and score.score < _POOR
        for hint in score.suggestions
    ]
    return tuple(dict.fromkeys([*health.findings, *steps, *poor]))
