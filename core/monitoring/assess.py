"""Assess one collection: from the answers of the sources to everything that is stored and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.monitoring.evaluate import evaluate
from core.monitoring.health import judge_environment, unknown_service
from core.monitoring.measurements import (
    dependency_status,
    service_metrics,
    store_metric,
    system_metrics,
    touched_services,
)
from core.monitoring.snapshot import Evaluation, Key, Observation, QuietServices
from models.compose import Application
from models.containers import ContainerState, Death, ServiceSample, SystemSample
from models.environments import Environment
from models.health import Health, HealthReport, ProbeResult
from models.metrics import Alert, AlertSeverity, Dependency, Metric, Prediction
from models.operations import Operation

HEALTH_EVERY = timedelta(minutes=5)
"""How often an unchanged health is stored, with its probe answers: a row a collection would be most of the store."""

_MISSED_COLLECTIONS = 3
_TOLERATED_DELAY = timedelta(minutes=2)
"""A collection delayed by less is not reported as missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedState:
    """State of an environment before a collection.

    `last` are the newest metrics. `running` are the current operations, each with the services it has completed;
    `settling` those that ended a moment ago. `collected_at` is when the last collection was stored, `health` its newest
    row.
    """

    states: Mapping[Key, bytes]
    last: tuple[Metric, ...] = ()
    alerts: tuple[Alert, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    running: tuple[tuple[Operation, frozenset[str]], ...] = ()
    settling: tuple[Operation, ...] = ()
    stopped: bool = False
    store_bytes: float | None = None
    collected_at: datetime | None = None
    health: HealthReport | None = None

    def quiet(self, services: Sequence[str], *, idle: bool) -> QuietServices:
        """Return the services to keep quiet about."""
        busy = [touched_services(operation, services, done) for operation, done in self.running]
        settling = [touched_services(operation, services) for operation in self.settling]
        return QuietServices(busy=frozenset().union(*busy), settling=frozenset().union(*settling), idle=idle)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAnswers:
    """Answers of the sources at one moment; None for a source that did not answer, and `gaps` says why."""

    at: datetime
    application: Application | None = None
    system: SystemSample | None = None
    samples: Sequence[ServiceSample] | None = None
    container_states: Sequence[ContainerState] | None = None
    health: HealthReport | None = None
    ends: Sequence[Death] = ()
    needs: Sequence[Dependency] = ()
    gaps: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Result of one collection, to be stored.

    `blind`: the services could not be judged, and `health` says why. `idle`: the application is stopped on purpose,
    so nothing is dispatched. `news`: the health differs from its newest row, or that row is old.
    """

    metrics: tuple[Metric, ...]
    dependencies: tuple[Dependency, ...] | None
    health: HealthReport
    outcome: Evaluation
    blind: bool
    idle: bool
    news: bool

    @property
    def answers(self) -> list[ProbeResult]:
        """The probe answers to store: all with a row of health, otherwise the failed ones."""
        probes = [probe for verdict in self.health.services for probe in verdict.probes]
        return probes if self.news else [probe for probe in probes if not probe.ok]


def assess(environment: Environment, seen: SourceAnswers, memory: RememberedState) -> Assessment:
    """Assess the answers of the sources by the remembered state."""
    health = seen.health
    metrics = _measured(environment.name, seen, memory)
    dependencies = dependency_status(seen.needs, health.services, seen.at) if health else None
    # An application stopped on purpose is measured and judged, but leads to no alert and no recovery.
    idle = memory.stopped or (seen.container_states is not None and not seen.container_states)
    outcome = evaluate(
        memory.states,
        Observation(
            at=seen.at,
            metrics=metrics,
            verdicts=health.services if health else None,
            dependencies=dependencies or (),
            certain=_certain(seen.container_states or ()),
            gaps=seen.gaps,
            statistics=seen.samples is not None,
            ends={one.service: one for one in seen.ends},
        ),
        environment=environment,
        quiet=memory.quiet([verdict.service for verdict in health.services] if health else [], idle=idle),
        rows=memory.alerts,
        predictions=memory.predictions,
    )
    judged = health or _unseen(environment, seen)
    critical = sum(alert.severity is AlertSeverity.CRITICAL for alert in outcome.reported)
    missed = missed_collections(memory.collected_at, seen.at, timedelta(seconds=environment.collect_every_seconds))
    whole = replace(
        judged,
        # Every container may be up while a metric says that something is badly wrong.
        overall=Health.DEGRADED if critical and judged.overall is Health.HEALTHY else judged.overall,
        critical_alerts=critical,
        findings=(*judged.findings, *((missed,) if missed else ())),
    )
    return Assessment(
        metrics=tuple(metrics),
        dependencies=None if dependencies is None else tuple(dependencies),
        health=whole,
        outcome=outcome,
        blind=health is None,
        idle=idle,
        news=is_news(whole, memory.health),
    )


def is_news(health: HealthReport, last: HealthReport | None) -> bool:
    """Whether to store a row of health: it differs from the newest one, or that one is old."""
    return (
        last is None
        or last.checked_at > health.checked_at
        or health.checked_at - last.checked_at >= HEALTH_EVERY
        or _content(health) != _content(last)
    )


def _content(health: HealthReport) -> tuple[object, ...]:
    answers = [(probe.service, probe.target, probe.ok) for one in health.services for probe in one.probes]
    services = [(one.service, one.health) for one in health.services]
    return health.overall, health.critical_alerts, sorted(health.findings), sorted(services), sorted(answers)


def missed_collections(before: datetime | None, now: datetime, every: timedelta) -> str | None:
    """Describe the time without a collection although one was due; None if there is none."""
    if before is None or now - before < max(_MISSED_COLLECTIONS * every, _TOLERATED_DELAY):
        return None
    looks = round((now - before) / every) - 1
    return f"nothing was collected from {before:%Y-%m-%d %H:%M:%S} to {now:%H:%M:%S} UTC: {looks} looks are missing"


def _measured(environment: str, seen: SourceAnswers, memory: RememberedState) -> list[Metric]:
    probes = [probe for verdict in seen.health.services for probe in verdict.probes] if seen.health else []
    of_host = system_metrics(environment, seen.system, memory.last) if seen.system else []
    at = seen.system.sampled_at if seen.system else seen.at
    of_host += store_metric(environment, memory.store_bytes, at)
    states, ends = seen.container_states or (), seen.ends
    samples, since = seen.samples or (), memory.collected_at
    return of_host + service_metrics(environment, samples, states, probes, memory.last, ends, since)


def _certain(container_states: Sequence[ContainerState]) -> frozenset[str]:
    """Return services whose state needs no confirmation: exited, or unhealthy by their own check."""
    certain = [seen for seen in container_states if seen.state != "running" or seen.health == "unhealthy"]
    return frozenset(seen.service for seen in certain if not seen.one_off)


def _unseen(environment: Environment, seen: SourceAnswers) -> HealthReport:
    """Return the health of services that could not be inspected: never healthy."""
    declared = seen.application.services.values() if seen.application else ()
    # Several sources fail for one cause, in the same words.
    why = "; ".join(dict.fromkeys(gap.partition(": ")[2] or gap for gap in seen.gaps)) or "nobody answered"
    return judge_environment(
        environment.name,
        [unknown_service(one.name, why, spec=environment.service(one.name)) for one in declared if one.replicas],
        now=seen.at,
        dependencies=seen.needs,
        system_load=seen.system.load_1m if seen.system else None,
        findings=seen.gaps,
    )
