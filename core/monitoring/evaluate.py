"""Evaluate one collection: from an observation and the remembered state to alerts, scores, predictions and new state.

All of it is one function from values to values. Its result is stored in one transaction, so a process that ends
anywhere neither loses nor doubles an alert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime

from core.monitoring.alerts import AHEAD, BUDGET, evaluate_alerts, update_alerts
from core.monitoring.evaluators import services
from core.monitoring.evaluators.metrics import evaluate_metrics
from core.monitoring.forecasts import evaluate_predictions
from core.monitoring.scores import score_services, scores_to_store
from core.monitoring.snapshot import (
    HEALTH,
    RESTARTS,
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
from models.environments import Environment
from models.failures import BadInputError
from models.metrics import HOST, Alert, AlertState, Prediction

EVALUATORS: tuple[Evaluator, ...] = (
    evaluate_metrics,
    services.evaluate_health,
    services.evaluate_restarts,
    services.evaluate_sources,
    services.evaluate_missing_metrics,
    services.evaluate_error_budgets,
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
    maintained = {name for name in (HOST, *snapshot.verdicts) if snapshot.in_maintenance(name)}
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
    return metric not in (HEALTH, SOURCES) and not metric.endswith((AHEAD, BUDGET))


def close_proven(
    evaluation: Evaluation, healthy: AbstractSet[str], at: datetime
) -> tuple[dict[Key, bytes], tuple[Alert, ...]]:
    """Close the alerts of services that a recovery proved healthy: the states to store, and the closed alerts."""
    over = {one.alert_id for one in evaluation.alerts if one.metric in (HEALTH, RESTARTS) and one.service in healthy}
    state, _, closed = update_alerts(evaluation.states.get(_ALERTS), at, is_over=lambda one: one.alert_id in over)
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


def _orphans(rows: Sequence[Alert], known: Sequence[Alert], at: datetime) -> list[Alert]:
    """Resolve the stored alerts that no state knows: their state was lost, or comes from an earlier version."""
    ids = {alert.alert_id for alert in known}
    return [replace(row, state=AlertState.RESOLVED, resolved_at=at) for row in rows if row.alert_id not in ids]
