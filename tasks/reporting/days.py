"""Read the last days of an environment, as values and as a page. Imports no Prefect, which takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.analysis import Analysis
from models.drills import DrillRecord
from models.failures import BadInputError
from models.health import RecordedScore
from models.metrics import Alert, Prediction
from models.pages import Page
from models.settings import current_settings
from tasks.reporting.read import read_analysis
from tasks.runtime.stores import open_stores

_MANY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The records of an environment's last days. `scores` are the newest of each service."""

    analysis: Analysis
    scores: tuple[RecordedScore, ...]
    alerts: tuple[Alert, ...]
    predictions: tuple[Prediction, ...]
    drills: tuple[DrillRecord, ...] = ()


def days_of(environment: str, days: int, now: datetime) -> Days:
    """Operations, scores, alerts and predictions of the last days.

    Raises:
        StoreError: The stores cannot be read.
    """
    stores, since = open_stores(), now - timedelta(days=days)
    return Days(
        analysis=read_analysis(environment, days, now),
        scores=tuple(stores.health.latest_scores(environment)),
        alerts=tuple(alert for alert in stores.alerts.latest(environment, limit=_MANY) if alert.opened_at >= since),
        predictions=tuple(stores.evaluations.predictions(environment, since=since)),
        drills=drills_since(environment, since),
    )


def drills_since(environment: str, since: datetime) -> tuple[DrillRecord, ...]:
    """The drills of an environment since a moment, newest first, without those that were refused."""
    drills = open_stores().operations.drills(environment, since)
    return tuple(operation.record.drill for operation in drills if operation.record.drill is not None)


def page_of_days(environment: str, days: int, now: datetime) -> Page:
    """The report on the last days as a page, with availability and the recoveries that were tried.

    Raises:
        StoreError: The stores cannot be read.
    """
    from core.reporting.report_page import report_page

    records, stores, since = days_of(environment, days, now), open_stores(), now - timedelta(days=days)
    return report_page(
        records.analysis,
        records.scores,
        records.alerts,
        records.predictions,
        answers=stores.health.answers_by_day(environment, since),
        actions=stores.recoveries.outcomes(environment, since),
        objective_percent=_objective_percent(environment),
        drills=records.drills,
    )


def _objective_percent(environment: str) -> float | None:
    """The objective in the environment's file; None without a readable one, such as for bare Compose files."""
    from adapters.config.environments import declared_environment

    try:
        return declared_environment(environment, current_settings()).objective_percent
    except BadInputError:
        return None
