"""Reports: read what a report is made of, and put it where it is kept and shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect import task
from prefect.artifacts import acreate_markdown_artifact

from models.analysis import Analysis
from models.health import RecordedScore
from models.metrics import Alert, Prediction
from tasks.reporting.read import read_analysis
from tasks.runtime.naming import artifact_key
from tasks.runtime.retry_policy import WRITE, in_thread, retry_read
from tasks.runtime.stores import open_stores

_MANY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The records of an environment's last days. `scores` are the newest of each service."""

    analysis: Analysis
    scores: tuple[RecordedScore, ...]
    alerts: tuple[Alert, ...]
    predictions: tuple[Prediction, ...]


def days_of(environment: str, days: int, now: datetime) -> Days:
    """Operations, scores, alerts and predictions of the last days.

    Raises:
        StoreError: The stores cannot be read.
    """
    stores, since = open_stores(), now - timedelta(days=days)
    return Days(
        analysis=read_analysis(environment, days, now),
        scores=tuple(stores.health.latest_scores(environment)),
        alerts=tuple(one for one in stores.alerts.latest(environment, limit=_MANY) if one.opened_at >= since),
        predictions=tuple(stores.evaluations.predictions(environment, since=since)),
    )


read_days = retry_read(in_thread(days_of))


@task(name="keep the report", **WRITE)
async def keep_report(environment: str, made_at: datetime, since: datetime, text: str) -> None:
    """Keep a report in the store, and put it on the run's page."""
    await asyncio.to_thread(open_stores().reports.keep, environment, made_at, since, text)
    await acreate_markdown_artifact(key=artifact_key("report", environment), markdown=text)
