"""Metrics of schedules: when each succeeded last, and whether its last run went well."""

from __future__ import annotations

from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.stores.repositories.repositories import Repositories
from models.scheduled_runs import RUNS_SHOWN, ScheduledRun, ScheduledState

_ENDED = (ScheduledState.SUCCEEDED, ScheduledState.FAILED, ScheduledState.SKIPPED, ScheduledState.MISSED)


def schedule_figures(stores: Repositories) -> list[Metric]:
    """The families of schedules, of each that has run. Raises StoreError if they cannot be read."""
    last: dict[tuple[str, str], ScheduledRun] = {}
    succeeded: dict[tuple[str, str], ScheduledRun] = {}
    for run in stores.scheduled_runs.latest_of_each(None, RUNS_SHOWN):
        key = (run.environment, run.schedule)
        if run.state in _ENDED:
            last.setdefault(key, run)
        if run.state is ScheduledState.SUCCEEDED:
            succeeded.setdefault(key, run)
    labels = ("environment", "schedule")
    return [
        families.gauge(
            "roas_schedule_ok",
            "1 where the last run of a schedule succeeded; 0 where it failed, was missed or was left out.",
            *labels,
            samples=((key, float(not run.state.is_bad)) for key, run in last.items()),
        ),
        families.gauge(
            "roas_schedule_succeeded_timestamp_seconds",
            "When the last run of a schedule that succeeded was due.",
            *labels,
            samples=((key, run.due_at.timestamp()) for key, run in succeeded.items()),
        ),
        families.gauge(
            "roas_schedule_duration_seconds",
            "How long the last run of a schedule that succeeded took.",
            *labels,
            samples=((key, run.seconds or 0.0) for key, run in succeeded.items()),
        ),
    ]
