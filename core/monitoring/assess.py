"""Assess one collection: from the answers of the sources to everything that is stored and reported.

All of it is one function from values to values. Its result is stored in one transaction, so a process that ends
anywhere neither loses nor doubles an alert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.monitoring import evaluators, measurements
from core.monitoring.alerts import AHEAD, BUDGET, evaluate_alerts, update_alerts
from core.monitoring.forecasts import evaluate_predictions
from core.monitoring.health import judge_environment, unknown_service
from core.monitoring.scores import score_services, scores_to_store
from core.monitoring.snapshot import (
    HEALTH,
    RESTARTS,
    SNAPSHOTS,
    SOURCES,
    Evaluation,
    Evaluator,
    Key,
    MonitoringSnapshot,
    MonitoringState,
    Observation,
    QuietServices,
    maintenance_windows,
)
from models.compose import Application
from models.containers import ContainerState, Death, ServiceSample, SystemSample
from models.environments import Environment
from models.failures import BadInputError
from models.health import Health, HealthReport, ProbeResult
from models.metrics import HOST, Alert, AlertSeverity, AlertState, Dependency, Metric, Prediction
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
        busy = [measurements.touched_services(operation, services, done) for operation, done in self.running]
        settling = [measurements.touched_services(operation, services) for operation in self.settling]
        return QuietServices(busy=frozenset().union(*busy), settling=frozenset().union(*settling), idle=idle)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAnswers:
    """Answers of the sources at one moment; None for a source that did not answer, and `gaps` says why.

    `snapshot_problems` says what is wrong with the snapshots of the data.
    """

    at: datetime
    application: Application | None = None
    system: SystemSample | None = None
    samples: Sequence[ServiceSample] | None = None
    container_states: Sequence[ContainerState] | None = None
    health: HealthReport | None = None
    ends: Sequence[Death] = ()
    needs: Sequence[Dependency] = ()
    gaps: Sequence[str] = ()
    snapshot_problems: Sequence[str] = ()


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


def assess(environment: Environment, answers: SourceAnswers, memory: RememberedState) -> Assessment:
    """Assess the answers of the sources by the remembered state."""
    health = answers.health
    metrics = _metrics_of(environment.name, answers, memory)
    dependencies = measurements.dependency_status(answers.needs, health.services, answers.at) if health else None
    # An application stopped on purpose is measured and judged, but leads to no alert and no recovery.
    idle = memory.stopped or (answers.container_states is not None and not answers.container_states)
    outcome = evaluate(
        memory.states,
        Observation(
            at=answers.at,
            metrics=metrics,
            verdicts=health.services if health else None,
            dependencies=dependencies or (),
            certain=_certain(answers.container_states or ()),
            gaps=answers.gaps,
            statistics=answers.samples is not None,
            ends={death.service: death for death in answers.ends},
            snapshot_problems=answers.snapshot_problems,
        ),
        environment=environment,
        quiet=memory.quiet([verdict.service for verdict in health.services] if health else [], idle=idle),
        rows=memory.alerts,
        predictions=memory.predictions,
    )
    judged = health or _unseen_health(environment, answers)
    critical = sum(alert.severity is AlertSeverity.CRITICAL for alert in outcome.reported_alerts)
    missed = missed_collections(memory.collected_at, answers.at, timedelta(seconds=environment.collect_every_seconds))
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
    answers = [(probe.service, probe.target, probe.ok) for verdict in health.services for probe in verdict.probes]
    services = [(verdict.service, verdict.health) for verdict in health.services]
    return health.overall, health.critical_alerts, sorted(health.findings), sorted(services), sorted(answers)


def missed_collections(before: datetime | None, now: datetime, every: timedelta) -> str | None:
    """Describe the time without a collection although one was due; None if there is none."""
    if before is None or now - before < max(_MISSED_COLLECTIONS * every, _TOLERATED_DELAY):
        return None
    missed = round((now - before) / every) - 1
    return (
        f"nothing was collected from {before:%Y-%m-%d %H:%M:%S} to {now:%H:%M:%S} UTC: {missed} collections are missing"
    )


def _metrics_of(environment: str, answers: SourceAnswers, memory: RememberedState) -> list[Metric]:
    probes = [probe for verdict in answers.health.services for probe in verdict.probes] if answers.health else []
    of_host = measurements.system_metrics(environment, answers.system, memory.last) if answers.system else []
    at = answers.system.sampled_at if answers.system else answers.at
    of_host += measurements.store_metric(environment, memory.store_bytes, at)
    states, ends = answers.container_states or (), answers.ends
    samples, since = answers.samples or (), memory.collected_at
    return of_host + measurements.service_metrics(environment, samples, states, probes, memory.last, ends, since)


def _certain(container_states: Sequence[ContainerState]) -> frozenset[str]:
    """Return services whose state needs no confirmation: exited, or unhealthy by their own check."""
    certain = [
        container for container in container_states if container.state != "running" or container.health == "unhealthy"
    ]
    return frozenset(container.service for container in certain if not container.one_off)


def _unseen_health(environment: Environment, answers: SourceAnswers) -> HealthReport:
    """Return the health of services that could not be inspected: never healthy."""
    declared = answers.application.services.values() if answers.application else ()
    # Several sources fail for one cause, in the same words.
    why = "; ".join(dict.fromkeys(gap.partition(": ")[2] or gap for gap in answers.gaps)) or "no source answered"
    return judge_environment(
        environment.name,
        [
            unknown_service(declaration.name, why, spec=environment.service(declaration.name))
            for declaration in declared
            if declaration.replicas
        ],
        now=answers.at,
        dependencies=answers.needs,
        system_load=answers.system.load_1m if answers.system else None,
        findings=answers.gaps,
    )


EVALUATORS: tuple[Evaluator, ...] = (
    evaluators.evaluate_metrics,
    evaluators.evaluate_health,
    evaluators.evaluate_restarts,
    evaluators.evaluate_sources,
    evaluators.evaluate_snapshots,
    evaluators.evaluate_missing_metrics,
    evaluators.evaluate_error_budgets,
    evaluate_predictions,
)

_ALERTS: Key = ("", "alerts")


def evaluate(
    previous: Mapping[Key, bytes],
    observation: Observation,
    *,
    environment: Environment,
    quiet: QuietServices | None = None,
    rows: Sequence[Alert] = (),
    predictions: Sequence[Prediction] = (),
) -> Evaluation:
    """Judge an observation by the remembered states, and learn from it.

    `rows` are the open alerts of the store: acknowledged ones are acknowledged here too, and unknown ones are
    closed. `predictions` are those without an outcome. An unreadable state starts anew and is named in `unreadable`.
    """
    snapshot = MonitoringSnapshot(
        observation=observation,
        environment=environment,
        quiet=quiet or QuietServices(),
        windows=maintenance_windows(environment.maintenance, observation.at),
        predictions=predictions,
        verdicts={verdict.service: verdict for verdict in observation.verdicts or ()},
    )
    state = MonitoringState(previous)
    retired = _read_firing(snapshot, state, rows)
    signals = [signal for evaluator in EVALUATORS for signal in evaluator(snapshot, state)]
    silenced = {*snapshot.quiet.busy, *(snapshot.verdicts if snapshot.quiet.idle else ())}
    alerting = evaluate_alerts(
        state.kept.get(_ALERTS),
        signals,
        environment=environment.name,
        now=snapshot.at,
        dependencies=observation.dependencies,
        maintenance=snapshot.windows,
        busy=silenced,
    )
    state.kept[_ALERTS] = alerting.state
    alerts = (*alerting.open, *(replace(alert, explained_by=root) for alert, root in alerting.explained))
    closed = (*alerting.closed, *retired)
    scores = score_services(snapshot, state)
    stored_scores = scores_to_store(scores, snapshot, state.memory)
    state.keep_memory()
    maintained = {name for name in (HOST, *snapshot.verdicts) if snapshot.is_in_maintenance(name)}
    return Evaluation(
        at=snapshot.at,
        states=state.kept,
        baselines=tuple(state.baselines),
        judgements=tuple(state.judgements),
        events=alerting.events,
        alerts=alerts,
        closed=(*closed, *_orphans(rows, (*alerts, *closed), snapshot.at)),
        predictions=tuple(state.predictions),
        current_scores=tuple(scores),
        scores=tuple(stored_scores),
        muted=frozenset(silenced | maintained),
        unreadable=tuple(state.unreadable),
    )


def is_predictive(metric: str) -> bool:
    """Whether an alert of this metric warns of a possible failure.

    False for failures that happened or are counted, and for predictions, which are dispatched separately.
    """
    return metric not in (HEALTH, SOURCES, SNAPSHOTS) and not metric.endswith((AHEAD, BUDGET))


def close_proven(
    evaluation: Evaluation, healthy: AbstractSet[str], at: datetime
) -> tuple[dict[Key, bytes], tuple[Alert, ...]]:
    """Close the alerts of services that a recovery proved healthy: the states to store, and the closed alerts."""
    over = {
        alert.alert_id for alert in evaluation.alerts if alert.metric in (HEALTH, RESTARTS) and alert.service in healthy
    }
    state, _, closed = update_alerts(evaluation.states.get(_ALERTS), at, is_over=lambda alert: alert.alert_id in over)
    return {_ALERTS: state}, closed


def _read_firing(snapshot: MonitoringSnapshot, state: MonitoringState, rows: Sequence[Alert]) -> tuple[Alert, ...]:
    """Read the open alerts, acknowledge and close them as the store and the environment say; return the closed."""
    acknowledged = {row.alert_id for row in rows if row.state is AlertState.ACKNOWLEDGED}
    try:
        state.kept[_ALERTS], firing, closed = update_alerts(
            state.previous.get(_ALERTS),
            snapshot.at,
            is_over=lambda alert: _is_gone(alert, snapshot),
            acknowledged=acknowledged,
        )
    except BadInputError:
        state.unreadable.append("the alerts")
        return ()
    state.firing = {(alert.service, alert.metric): alert for alert in firing}
    return closed


def _is_gone(alert: Alert, snapshot: MonitoringSnapshot) -> bool:
    """Whether the subject of an alert is no longer declared, or is stopped on purpose."""
    if alert.service == HOST or snapshot.observation.verdicts is None:
        return False
    if snapshot.quiet.idle or alert.service not in snapshot.verdicts:
        return True
    return alert.metric == "response_time" and snapshot.environment.service(alert.service).probe is None


def _orphans(rows: Sequence[Alert], alerts: Sequence[Alert], at: datetime) -> list[Alert]:
    """Resolve the stored alerts that no state knows: their state was lost, or comes from an earlier version."""
    ids = {alert.alert_id for alert in alerts}
    return [replace(row, state=AlertState.RESOLVED, resolved_at=at) for row in rows if row.alert_id not in ids]
