"""An environment at one moment, as `roas top` shows it: what its containers do, and what the record says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from models.containers import ContainerState, ServiceSample
from models.health import HealthReport
from models.metrics import Alert, Metric, Prediction
from models.operations import Operation
from models.records import Release
from models.recovery import Pause, RecoveryExecution


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """What the engine says of one project at one moment. `problem` says why nothing is known."""

    at: datetime
    containers: tuple[ContainerState, ...] = ()
    samples: tuple[ServiceSample, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecords:
    """What the stores say of one environment.

    `running` is the operation that has not ended and `step` its last finished step. `causes` has the category of the
    error behind each of `recoveries`, by the error's id. `metrics` are the samples of the last half hour. `beats` are
    the last heartbeats of its watch and its collection. `problem` says why a store could not be read.
    """

    health: HealthReport | None = None
    running: Operation | None = None
    last_operation: Operation | None = None
    step: str = ""
    meant_to_run: bool = True
    release: Release | None = None
    alerts: tuple[Alert, ...] = ()
    tickets: int = 0
    pauses: tuple[Pause, ...] = ()
    recoveries: tuple[RecoveryExecution, ...] = ()
    causes: Mapping[str, str] = field(default_factory=dict)
    forecast: Prediction | None = None
    metrics: tuple[Metric, ...] = ()
    watched_at: datetime | None = None
    collected_at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveService:
    """One service now. `since` is when its container started or ended; `containers` counts its replicas.

    `cpu_percent` is of one processor. Histories are the oldest value first, and end now.
    """

    service: str
    state: str
    health: str = ""
    containers: int = 0
    since: datetime | None = None
    restarts: int = 0
    cpu_percent: float | None = None
    memory_bytes: float | None = None
    response_ms: float | None = None
    cpu_history: tuple[float, ...] = ()
    memory_history: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecovery:
    """One recovery: what was done about which cause, and how it ended. `success` is None while it runs."""

    at: datetime
    service: str
    action: str
    cause: str
    result: str
    success: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """An environment at one moment. `stale` says that the record is old, and why; empty while it is not."""

    environment: str
    at: datetime
    services: tuple[LiveService, ...]
    overall: str = ""
    meant_to_run: bool = True
    release: str = ""
    released_at: datetime | None = None
    collected_at: datetime | None = None
    stale: str = ""
    problems: tuple[str, ...] = ()
    operation: Operation | None = None
    step: str = ""
    alerts: tuple[Alert, ...] = ()
    tickets: int = 0
    pauses: tuple[Pause, ...] = ()
    recoveries: tuple[LiveRecovery, ...] = ()
    forecast: Prediction | None = None
    history: timedelta = timedelta()
