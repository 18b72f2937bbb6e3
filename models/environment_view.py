"""One environment as its page shows it: services and what they need, what happens and happened, figures, releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from models.drills import DrillRecord
from models.health import RecordedScore
from models.metrics import Baseline, Dependency, Metric, Prediction
from models.needs import NeedState
from models.operations import OperationStep, StateChange
from models.overview import EnvironmentSummary, HealthVerdict, VerdictLevel
from models.pages import Plot
from models.records import EnvironmentStatus, Release, ReleaseDetails
from models.scheduled_runs import ScheduleView
from models.snapshots import DataSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service: its verdict and why, what it needs, and its latest score.

    `drifted` says whether it differed from its declaration when that was compared last, None where it never was.
    """

    service: str
    verdict: HealthVerdict
    reason: str = ""
    needs: tuple[Dependency, ...] = ()
    proofs: tuple[str, ...] = ()
    score: RecordedScore | None = None
    drifted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One event of an environment. `kind` is operation, failure, recovery or alert, `row` the id of its record."""

    at: datetime
    kind: str
    row: str
    event: str
    level: VerdictLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlot:
    """A metric of a service over time. `note` says what the plot's band and limit are."""

    service: str
    metric: str
    plot: Plot
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecords:
    """The samples of an environment's services in a span of time, and by what they are judged.

    `limits` has the limits that the environment's file gives, by service and metric.
    """

    since: datetime
    until: datetime
    samples: tuple[Metric, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    limits: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentView:
    """One environment at one moment.

    `steps` and `changes` are those of the operation that runs, oldest first; `pending` are the services that it
    brings up and has not proven yet. `needs` are other environments that it needs, `needed_by` those that need it.
    """

    at: datetime
    summary: EnvironmentSummary
    status: EnvironmentStatus
    services: tuple[ServiceView, ...]
    steps: tuple[OperationStep, ...] = ()
    changes: tuple[StateChange, ...] = ()
    pending: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    release: Release | None = None
    releases: tuple[ReleaseDetails, ...] = ()
    snapshots: tuple[DataSnapshot, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    schedules: tuple[ScheduleView, ...] = ()
    drill: DrillRecord | None = None
    drift_checked_at: datetime | None = None
    needs: tuple[NeedState, ...] = ()
    needed_by: tuple[str, ...] = ()
