"""Collection: look at everything at once, judge it, store it, and hand what is wrong to error recovery."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prefect import flow

from core.baselines import baseline, judge, learn
from core.collection import (
    ILL,
    changed_alerts,
    dependency_status,
    first_causes,
    limit_alerts,
    service_metrics,
    system_metrics,
)
from core.compose import start_waves
from flows.error_recovery import error_recovery
from flows.identifiers import new_error_id
from flows.judging import dependencies_of, judge_now
from models.analysis import Judgement, Level
from models.compose import Application
from models.environments import Environment
from models.failures import RoasError
from models.health import Health, HealthReport, ServiceVerdict
from models.metrics import HOST, Alert, AlertSeverity, Baseline, Metric
from models.recovery import RecoveryMethod, RecoveryOutcome
from models.results import CollectionReport
from models.sightings import ServiceSample, Sighting, SystemSample
from tasks.loading import load_environment
from tasks.monitoring import (
    baseline_states,
    last_metrics,
    open_alerts,
    refresh_cache,
    sample_services,
    sample_system,
    stopped_on_request,
    store_alerts,
    store_collection,
    store_dependencies,
)
from tasks.reconciling import mark_interrupted
from tasks.records import record_health
from tasks.services import look_at_application, read_application

log = logging.getLogger("roas")
Answer = TypeVar("Answer")

_JUDGED = frozenset({"cpu_usage", "memory_usage", "response_time", "disk_usage", "load_1m"})
"""The metrics with a baseline; the others are kept as they are, for rates and for people."""

_SETTLE_SECONDS = 15.0
_CACHE_LIFETIMES = 3
"""The snapshot outlives this many collections, so that one late collection does not empty the dashboard."""


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
    application, system, samples, sightings, last, states = await asyncio.gather(
        _or_gap("compose files", read_application(declared), gaps),
        _or_gap("host", sample_system(), gaps),
        _or_gap("container statistics", sample_services(declared), gaps),
        _or_gap("containers", look_at_application(declared), gaps),
        last_metrics(environment),
        baseline_states(environment),
    )
    idle = await stopped_on_request(environment) or (sightings is not None and not sightings)
    now = datetime.now(UTC)
    health = await _judge(declared, application, gaps)
    metrics = _measured(declared, system, samples, sightings, health, last)
    quiet = health is not None and health.count(*ILL) > 0
    judgements, learnt, baselines = _against_baselines(metrics, states, frozen=quiet)
    # What nobody wants to run is measured and judged, but it is no reason to wake or restart anything.
    alerts = await _alerts(declared, metrics, judgements, None if idle else health, now)
    needs = dependencies_of(declared, application) if application else []
    await store_collection(
        environment,
        metrics,
        dependency_status(needs, health.services if health else (), now),
        baselines,
        learnt,
    )
    if health is not None:
        critical = sum(alert.severity is AlertSeverity.CRITICAL for alert in alerts)
        health = dataclasses.replace(health, critical_alerts=critical)
        await record_health(health)
    recoveries: list[RecoveryOutcome] = []
    if not idle:
        recoveries = await _hand_over(declared, application, files, health, judgements, gaps, act=act)
    after = None
    if application is not None and any(one.method is RecoveryMethod.AUTOMATIC for one in recoveries):
        after = await _or_gap("health after recovery", judge_now(declared, application), gaps)
        if after is not None:
            await record_health(after)
            await store_dependencies(environment, dependency_status(needs, after.services, after.checked_at))
            alerts = await _close_health_alerts(alerts, after)
    report = _report(declared, health, after, metrics, alerts, gaps, recoveries, now)
    trouble = await refresh_cache(
        environment,
        {"timestamp": report.timestamp, "overall_status": report.overall_status, "metrics": report.metrics},
        declared.collect_every_seconds * _CACHE_LIFETIMES,
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
    except (RoasError, TimeoutError) as error:
        log.warning("%s did not answer: %s", source, error)
        gaps.append(f"{source}: {error or type(error).__name__}")
        return None


async def _judge(environment: Environment, application: Application | None, gaps: list[str]) -> HealthReport | None:
    if application is None:
        return None
    return await _or_gap("health", judge_now(environment, application), gaps)


def _measured(
    environment: Environment,
    system: SystemSample | None,
    samples: Sequence[ServiceSample] | None,
    sightings: Sequence[Sighting] | None,
    health: HealthReport | None,
    last: Sequence[Metric],
) -> list[Metric]:
    probes = [probe for verdict in health.services for probe in verdict.probes] if health else []
    of_host = system_metrics(environment.name, system) if system else []
    return of_host + service_metrics(environment.name, samples or (), sightings or (), probes, last)


def _against_baselines(
    metrics: Sequence[Metric], states: dict[tuple[str, str], bytes], *, frozen: bool
) -> tuple[list[tuple[Metric, Judgement]], dict[tuple[str, str], bytes], list[Baseline]]:
    """Judge each metric by what was usual before it, then learn from it; nothing is learnt in bad times."""
    judgements, learnt, baselines = [], {}, []
    for metric in metrics:
        if metric.name not in _JUDGED:
            continue
        key = (metric.service, metric.name)
        known = states.get(key)
        judgements.append((metric, judge(known, metric.sampled_at, metric.value, metric=metric.name)))
        learnt[key] = learn(known, metric.sampled_at, metric.value, frozen=frozen)
        usual = baseline(learnt[key], service=metric.service, metric=metric.name)
        if usual is not None:
            baselines.append(usual)
    return judgements, learnt, baselines


async def _alerts(
    environment: Environment,
    metrics: Sequence[Metric],
    judgements: Sequence[tuple[Metric, Judgement]],
    health: HealthReport | None,
    now: datetime,
) -> list[Alert]:
    """What should be known now, new and old; stored where it changed."""
    stem = new_error_id(now).replace("err-", "alert-")
    true_now = limit_alerts(environment, metrics, stem)
    said = {(alert.service, alert.metric) for alert in true_now}
    for metric, judged in judgements:
        if judged.level in (Level.WARNING, Level.CRITICAL) and (metric.service, metric.name) not in said:
            true_now.append(_alert(stem, environment, metric, judged, now))
    for verdict in health.services if health else ():
        if verdict.health in ILL:
            true_now.append(_down_alert(stem, environment, verdict, now))
    keys = {(metric.service, metric.name) for metric in metrics}
    keys |= {(verdict.service, "health") for verdict in (health.services if health else ())}
    known = await open_alerts(environment.name)
    began, ended = changed_alerts(known, true_now, frozenset(keys))
    await store_alerts(began, [dataclasses.replace(alert, resolved_at=now) for alert in ended])
    for alert in began:
        log.warning("alert: %s %s", alert.service, alert.reason)
    for alert in ended:
        log.info("alert over: %s %s", alert.service, alert.metric)
    return [alert for alert in known if alert not in ended] + began


async def _close_health_alerts(alerts: Sequence[Alert], after: HealthReport) -> list[Alert]:
    """The alerts that a recovery did not end; the others are closed at once, not at the next collection."""
    ill = {verdict.service for verdict in after.services if verdict.health in ILL}
    over = [alert for alert in alerts if alert.metric == "health" and alert.service not in ill]
    await store_alerts([], [dataclasses.replace(alert, resolved_at=after.checked_at) for alert in over])
    return [alert for alert in alerts if alert not in over]


async def _hand_over(
    environment: Environment,
    application: Application | None,
    files: tuple[str, ...],
    health: HealthReport | None,
    judgements: Sequence[tuple[Metric, Judgement]],
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
        outcomes += await _recover_services(environment, application, files, health, act=act)
    for metric, judged in judgements:
        if judged.level is Level.CRITICAL:
            outcomes.append(
                await error_recovery(
                    environment=environment.name,
                    text=f"{metric.name} of {metric.service} crossed its critical threshold: {judged.reason}",
                    service=None if metric.service == HOST else metric.service,
                    source="prediction",
                    compose_files=list(files),
                    act=act,
                    predictive=True,
                )
            )
    return outcomes


async def _recover_services(
    environment: Environment, application: Application, files: tuple[str, ...], health: HealthReport, *, act: bool
) -> list[RecoveryOutcome]:
    """The causes first; what depends on them is looked at again, and recovered only if it stays ill."""
    outcomes: list[RecoveryOutcome] = []
    tried: set[str] = set()
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


def _alert(stem: str, environment: Environment, metric: Metric, judged: Judgement, now: datetime) -> Alert:
    return Alert(
        alert_id=f"{stem}-{metric.service}-{metric.name}",
        environment=environment.name,
        service=metric.service,
        metric=metric.name,
        severity=AlertSeverity.CRITICAL if judged.level is Level.CRITICAL else AlertSeverity.WARNING,
        reason=judged.reason,
        opened_at=now,
        value=metric.value,
        threshold=judged.threshold,
    )


def _down_alert(stem: str, environment: Environment, verdict: ServiceVerdict, now: datetime) -> Alert:
    return Alert(
        alert_id=f"{stem}-{verdict.service}-health",
        environment=environment.name,
        service=verdict.service,
        metric="health",
        severity=AlertSeverity.CRITICAL if verdict.required else AlertSeverity.WARNING,
        reason=verdict.reason,
        opened_at=now,
    )


def _report(
    environment: Environment,
    health: HealthReport | None,
    after: HealthReport | None,
    metrics: Sequence[Metric],
    alerts: Sequence[Alert],
    gaps: Sequence[str],
    recoveries: Sequence[RecoveryOutcome],
    now: datetime,
) -> CollectionReport:
    table: dict[str, dict[str, float]] = {}
    for metric in metrics:
        table.setdefault(metric.service, {})[metric.name] = metric.value
    advice = [step for outcome in recoveries if not outcome.success for step in outcome.steps]
    return CollectionReport(
        environment=environment.name,
        timestamp=now.isoformat(),
        overall_status=str(health.overall) if health else "unknown",
        metrics=table,
        alerts=tuple(f"{alert.severity}: {alert.service}: {alert.reason}" for alert in alerts),
        recommendations=tuple(dict.fromkeys([*(health.findings if health else ()), *advice])),
        gaps=tuple(gaps),
        health=health,
        after_recovery=str(after.overall) if after else None,
        recoveries=tuple(recoveries),
    )
