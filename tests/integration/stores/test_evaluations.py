"""A round is kept whole or not at all, and what a person did to an alert is the person's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from adapters.stores import Stores
from models.metrics import Alert, AlertSeverity, AlertState, Prediction, PredictionOutcome
from models.records import EvaluationRecord

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
ALERT = Alert(
    alert_id="a1",
    environment="prod",
    service="bot",
    metric="cpu_usage",
    severity=AlertSeverity.WARNING,
    reason="CPU 93 %",
    opened_at=NOON,
)
PREDICTION = Prediction(
    prediction_id="p1",
    environment="prod",
    service="host",
    metric="disk_usage",
    value=80.0,
    threshold=95.0,
    falling=False,
    made_at=NOON,
    expected=NOON + timedelta(hours=20),
    earliest=NOON + timedelta(hours=18),
    latest=NOON + timedelta(hours=22),
    words="disk rises",
)


def put(stores: Stores, *alerts: Alert, predictions: tuple[Prediction, ...] = ()) -> None:
    stores.evaluations.record(
        EvaluationRecord(
            environment="prod", evaluated_at=NOON, states={("", "alerts"): b"x"}, alerts=alerts, predictions=predictions
        )
    )


def test_an_evaluation_that_is_stored_twice_is_stored_once(stores: Stores) -> None:
    child = replace(ALERT, alert_id="a2", explained_by="a1")
    for _ in range(2):
        put(stores, ALERT, child, predictions=(PREDICTION,))

    assert stores.alerts.list_unresolved("prod") == [ALERT, child]
    assert stores.evaluations.predictions("prod") == [PREDICTION]
    assert stores.heartbeats.all() == {"collection/prod": NOON}


def test_an_evaluation_that_knew_nothing_of_it_leaves_an_alert_taken_unless_it_got_worse(stores: Stores) -> None:
    put(stores, ALERT)
    assert stores.alerts.acknowledge("a1", NOON, "on it")
    assert not stores.alerts.acknowledge("a1", NOON, "me too")

    put(stores, replace(ALERT, reason="CPU 94 %"))
    (taken,) = stores.alerts.list_unresolved("prod")
    assert (taken.state, taken.note, taken.reason) == (AlertState.ACKNOWLEDGED, "on it", "CPU 94 %")

    put(stores, replace(ALERT, severity=AlertSeverity.CRITICAL))
    (raised,) = stores.alerts.list_unresolved("prod")
    assert (raised.state, raised.note) == (AlertState.OPEN, "on it")


def test_a_resolved_alert_is_not_opened_again_by_a_round_that_comes_late(stores: Stores) -> None:
    put(stores, ALERT)
    put(stores, replace(ALERT, state=AlertState.RESOLVED, resolved_at=NOON))
    put(stores, ALERT)

    assert stores.alerts.list_unresolved("prod") == []


def test_what_became_of_a_prediction_is_kept(stores: Stores) -> None:
    put(stores, predictions=(PREDICTION,))
    scored = replace(PREDICTION, outcome=PredictionOutcome.HIT, scored_at=NOON + timedelta(hours=19))
    put(stores, predictions=(scored,))

    assert stores.evaluations.predictions("prod", PredictionOutcome.OPEN) == []
    assert stores.evaluations.predictions("prod", since=NOON) == [scored]


def test_an_evaluation_that_was_judged_by_what_is_no_longer_so_is_not_kept(stores: Stores) -> None:
    later = NOON + timedelta(minutes=1)
    keep = partial(
        stores.evaluations.record,
        EvaluationRecord(environment="prod", evaluated_at=later, states={("", "alerts"): b"y"}),
    )

    assert keep(expecting=None)
    assert keep(expecting=None)
    assert not stores.evaluations.record(
        EvaluationRecord(environment="prod", evaluated_at=NOON, states={("", "alerts"): b"z"}), expecting=None
    )
    assert stores.baselines.states("prod") == {("", "alerts"): b"y"}
    assert keep(expecting=later)
