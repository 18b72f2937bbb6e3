"""Collection: look at everything at once, judge it, store it, and hand what is wrong to error recovery."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from prefect import flow

from core.collection import ILL, dependency_status, first_causes, service_metrics, system_metrics
from core.compose import start_waves
from core.rounds import Looked, RoundOutcome, close_proven, foretells, take_round
from flows.error_recovery import error_recovery
from flows.judging import dependencies_of, judge_now
from models.analysis import AlertChange
from models.compose import Application
from models.environments import Environment
from models.failures import RoasError
from models.health import Health, HealthReport
from models.metrics import HOST, AlertSeverity, Metric, PredictionOutcome
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.results import CollectionReport
from models.sightings import ServiceSample, Sighting, SystemSample
from tasks.loading import load_environment
from tasks.monitoring import (
    Memory,
    read_memory,
    sample_services,
    sample_system,
    store_closed,
    store_metric,
    store_round,
    tell_cache,
)
from tasks.reconciling import mark_interrupted
from tasks.records import record_health
from tasks.services import look_at_application, read_application

log = logging.getLogger("roas")
Answer = TypeVar("Answer")

_SETTLE_SECONDS = 15.0
_POOR = 80.0
"""Below this many points a service's score comes with advice."""


@flow(name="collection", flow_run_name="collect {environment}")
async def collection(environment: str, compose_files: list[str] | None = None, act: bool = True) -> CollectionReport:
    """Collect once. A source that does not answer is a finding of its own; the rest is stored.

    Raises:
        EnvironmentFileError: The environment cannot be read.
        StoreError: What was collected could not be stored.
    """
    files = tuple(compose_files or ())
    declared = await load_environment(environment, files)
    await mark_interrupted(None, datetime.now(UTC))
    gaps: list[str] = []
    application, system, samples, sightings, memory = await asyncio.gather(
        _or_gap("compose files", read_application(declared), gaps),
        _or_gap("host", sample_system(), gaps),
        _or_gap("container statistics", sample_services(declared), gaps),
        _or_gap("containers", look_at_application(declared), gaps),
        read_memory(environment, datetime.now(UTC)),
    )
    health = await _judge(declared, application, sightings, gaps)
    metrics = _measured(declared, system, samples, sightings, health, memory)
    idle = memory.stopped or (sightings is not None and not sightings)
    needs = dependencies_of(declared, application) if application else []
    now = datetime.now(UTC)
    dependencies = dependency_status(needs, health.services, now) if health else None
    # What nobody wants to run is measured and judged, but it is no reason to wake or restart anything.
    outcome = take_round(
        memory.states,
        Looked(
            at=now,
            metrics=metrics,
            verdicts=health.services if health else None,
            dependencies=dependencies or (),
            certain=_certain(sightings or ()),
            gaps=gaps,
            statistics=samples is not None,
        ),
        environment=declared,
        quiet=memory.quiet([verdict.service for verdict in health.services] if health else [], idle=idle),
        rows=memory.alerts,
        predictions=memory.predictions,
    )
    if health is not None:
        critical = sum(alert.severity is AlertSeverity.CRITICAL for alert in outcome.told)
        health = dataclasses.replace(health, critical_alerts=critical)
    await store_round(environment, metrics, outcome, dependencies, health)
    _say(outcome)
    recoveries: list[RecoveryOutcome] = []
    if not idle:
        recoveries = await _hand_over(declared, application, files, health, outcome, gaps, act=act)
    after = None
    alerts = outcome.told
    if application is not None and any(one.method is RecoveryMethod.AUTOMATIC for one in recoveries):
        after = await _or_gap("health after recovery", judge_now(declared, application), gaps)
        if after is not None:
            await record_health(after)
            well = {verdict.service for verdict in after.services if verdict.health not in ILL}
            states, closed = close_proven(outcome, well, after.checked_at)
            proven = dependency_status(needs, after.services, after.checked_at)
            await store_closed(environment, after.checked_at, states, closed, proven)
            over = {alert.alert_id for alert in closed}
            alerts = tuple(alert for alert in alerts if alert.alert_id not in over)
    report = CollectionReport(
        environment=environment,
        timestamp=now.isoformat(),
        overall_status=str(health.overall) if health else "unknown",
        metrics=_table(metrics),
        alerts=tuple(f"{alert.severity}: {alert.service}: {alert.reason}" for alert in alerts),
        recommendations=_advice(health, recoveries, outcome),
        gaps=tuple(gaps),
        health=health,
        after_recovery=str(after.overall) if after else None,
        recoveries=tuple(recoveries),
    )
    trouble = await tell_cache(
        environment,
        {"timestamp": report.timestamp, "overall_status": report.overall_status, "metrics": report.metrics},
        outcome,
        timedelta(seconds=declared.collect_every_seconds),
    )
    if trouble:
        log.warning("the cache did not take the snapshot: %s", trouble)
    then = f", {report.after_recovery} after recovery" if report.after_recovery else ""
    log.info("%s is %s%s: %d metrics, %d alerts", environment, report.overall_status, then, len(metrics), len(alerts))
    return report


async def _or_gap(source: str, doing: Awaitable[Answer], gaps: list[str]) -> Answer | None:
    """The answer of one source, or None and a gap that says why."""
    try:
        return await doing
    except (RoasError, OSError, TimeoutError) as error:
        log.warning("%s did not answer: %s", source, error)
        gaps.append(f"{source}: {error or type(error).__name__}")
        return None


async def _judge(
    environment: Environment, application: Application | None, sightings: Sequence[Sighting] | None, gaps: list[str]
) -> HealthReport | None:
    # The engine that did not show its containers is a gap already, in the same words.
    if application is None or sightings is None:
        return None
    return await _or_gap("health", judge_now(environment, application, sightings=sightings), gaps)


def _certain(sightings: Sequence[Sighting]) -> frozenset[str]:
    """Services whose state needs no second look: what has ended, and what its own check has given up."""
    return frozenset(
        seen.service
        for seen in sightings
        if not seen.one_off and (seen.state != "running" or seen.health == "unhealthy")
    )


def _measured(
    environment: Environment,
    system: SystemSample | None,
    samples: Sequence[ServiceSample] | None,
    sightings: Sequence[Sighting] | None,
    health: HealthReport | None,
    memory: Memory,
) -> list[Metric]:
    probes = [probe for verdict in health.services for probe in verdict.probes] if health else []
    of_host = system_metrics(environment.name, system) if system else []
    at = system.sampled_at if system else datetime.now(UTC)
    of_host += store_metric(environment.name, memory.store_bytes, at)
    return of_host + service_metrics(environment.name, samples or (), sightings or (), probes, memory.last)


def _say(outcome: RoundOutcome) -> None:
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
        log.error("what was remembered as %s could not be read and is begun anew", name)


async def _hand_over(
    environment: Environment,
    application: Application | None,
    files: tuple[str, ...],
    health: HealthReport | None,
    outcome: RoundOutcome,
    gaps: Sequence[str],
    *,
    act: bool,
) -> list[RecoveryOutcome]:
    """One error for each cause: a service that is down, a metric far from usual, a source that is gone."""
    outcomes = []
    if health is None or application is None:
        outcomes.append(
            await error_recovery(
                environment=environment.name,
                # Several sources fail for one cause, in the same words.
                text="; ".join(dict.fromkeys(gap.partition(": ")[2] for gap in gaps)),
                source="collection",
                compose_files=list(files),
                act=False,
            )
        )
    else:
        outcomes += await _recover_services(environment, application, files, health, outcome.muted, act=act)
    for service, text, urgent in _foretold(outcome):
        outcomes.append(
            await error_recovery(
                environment=environment.name,
                text=text,
                service=None if service == HOST else service,
                source="prediction",
                compose_files=list(files),
                # A warning is worth knowing of, and no reason to restart what serves.
                act=act and urgent,
                predictive=True,
            )
        )
    return outcomes


def _foretold(outcome: RoundOutcome) -> list[tuple[str, str, bool]]:
    """What may fail, once for each cause: service, in words, and whether it is critical."""
    told = [
        (alert.service, f"{alert.metric} of {alert.service} is not as usual: {alert.reason}", alert.severity)
        for event in outcome.events
        if event.change in (AlertChange.OPENED, AlertChange.RAISED) and foretells((alert := event.alert).metric)
    ]
    told += [
        (one.service, f"{one.metric} of {one.service} is predicted: {one.words}", AlertSeverity.WARNING)
        for one in outcome.predictions
        if one.outcome is PredictionOutcome.OPEN
    ]
    return [(service, text, severity is AlertSeverity.CRITICAL) for service, text, severity in told]


async def _recover_services(
    environment: Environment,
    application: Application,
    files: tuple[str, ...],
    health: HealthReport,
    muted: frozenset[str],
    *,
    act: bool,
) -> list[RecoveryOutcome]:
    """The causes first; what depends on them is looked at again, and recovered only if it stays ill."""
    outcomes: list[RecoveryOutcome] = []
    tried = set(muted)
    left = health
    for _ in start_waves(application):
        causes = first_causes(left.services, dependencies_of(environment, application))
        causes = [verdict for verdict in causes if verdict.service not in tried]
        tried |= {verdict.service for verdict in causes}
        if not causes:
            break
        outcomes += [
            await error_recovery(
                environment=environment.name,
                text=f"service {verdict.service} is {verdict.health}: {verdict.reason}",
                service=verdict.service,
                source="collection",
                compose_files=list(files),
                act=act,
                failing_services=len(causes),
            )
            for verdict in causes
        ]
        if not any(one.method is RecoveryMethod.AUTOMATIC and one.success for one in outcomes):
            break
        left = await _settled(environment, application)
    return outcomes


async def _settled(environment: Environment, application: Application) -> HealthReport:
    """Health after a recovery, when dependants have had time to notice it."""
    waited = 0.0
    while True:
        now = await judge_now(environment, application)
        if now.overall is not Health.UNHEALTHY or waited >= _SETTLE_SECONDS:
            return now
        await asyncio.sleep(1)
        waited += 1


def _table(metrics: Sequence[Metric]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for metric in metrics:
        table.setdefault(metric.service, {})[metric.name] = metric.value
    return table


def _advice(
    health: HealthReport | None, recoveries: Sequence[RecoveryOutcome], outcome: RoundOutcome
) -> tuple[str, ...]:
    """What was found, what a person should do, and what costs a service its score; each once."""
    steps = [step for one in recoveries if not one.success for step in one.steps]
    poor = [
        f"{score.service}: {hint}"
        for score in outcome.current_scores
        if score.score is not None and score.score < _POOR
        for hint in score.suggestions
    ]
    return tuple(dict.fromkeys([*(health.findings if health else ()), *steps, *poor]))
