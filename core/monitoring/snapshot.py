"""What one evaluation reads and writes: the observation, the remembered state and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from core.common.weekly import times_around
from models.analysis import AlertEvent, Judgement, Level, ServiceScore, Signal
from models.containers import Death
from models.environments import Environment, Maintenance
from models.failures import BadInputError
from models.health import UNHEALTHY_STATES, ServiceHealth, ServiceVerdict
from models.metrics import Alert, Baseline, Dependency, Metric, Prediction

Key = tuple[str, str]
"""A service (or the host, or "" for the environment) and the name of a remembered state."""

HEALTH = "health"
RESTARTS = "restarts"
SOURCES = "sources"
SNAPSHOTS = "snapshots"
BUDGET_STATE = "budget"
NO_HEALTH_RESULT = frozenset({ServiceHealth.UNKNOWN, ServiceHealth.STARTING, ServiceHealth.COMPLETED})
"""The states that count neither as up nor as down."""

_MEMORY: Key = ("", "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """A time without alerts of a service, or of all services if `service` is None."""

    begins: datetime
    ends: datetime
    service: str | None = None

    def covers(self, service: str | None, at: datetime) -> bool:
        """Whether a service is under maintenance at this moment; of None, whether any is."""
        return (service is None or self.service in {None, service}) and self.begins <= at < self.ends


def maintenance_windows(declared: Iterable[Maintenance], now: datetime) -> list[MaintenanceWindow]:
    """Return the declared windows of today and yesterday (UTC), which may cover this moment."""
    return [
        MaintenanceWindow(begins=begins, ends=ends, service=name)
        for maintenance, begins, ends in times_around(declared, now, (-1, 0))
        for name in maintenance.services or (None,)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Samples of one collection.

    `verdicts` is None if health could not be judged. `certain` are services whose state needs no confirmation,
    such as an exited container. `gaps` says which sources did not answer and why. `statistics` is whether the
    resource use of containers was read. `ends` is the last end of each service, if known. `snapshot_problems` says
    what is wrong with the snapshots of the data, by the environment's policy.
    """

    at: datetime
    metrics: Sequence[Metric]
    verdicts: Sequence[ServiceVerdict] | None
    dependencies: Sequence[Dependency] = ()
    certain: AbstractSet[str] = frozenset()
    gaps: Sequence[str] = ()
    statistics: bool = True
    ends: Mapping[str, Death] = field(default_factory=dict)
    snapshot_problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietServices:
    """Services without alerts for now.

    An operation works on the `busy` ones and ended a moment ago on the `settling` ones. `idle`: the application is
    stopped on purpose.
    """

    busy: AbstractSet[str] = frozenset()
    settling: AbstractSet[str] = frozenset()
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of one evaluation, to be stored in one transaction.

    `alerts` are the open alerts, each that another explains with its cause; `closed` ended now. `muted` are services
    without automatic action because of maintenance or an operation. `scores` are those to store now, because they
    are due or moved; `current_scores` are all.
    """

    at: datetime
    states: dict[Key, bytes]
    baselines: tuple[Baseline, ...]
    judgements: tuple[tuple[Metric, Judgement], ...]
    events: tuple[AlertEvent, ...]
    alerts: tuple[Alert, ...]
    closed: tuple[Alert, ...]
    predictions: tuple[Prediction, ...] = ()
    current_scores: tuple[ServiceScore, ...] = ()
    scores: tuple[ServiceScore, ...] = ()
    muted: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()

    @property
    def reported_alerts(self) -> tuple[Alert, ...]:
        """The open alerts that no other alert explains."""
        return tuple(alert for alert in self.alerts if alert.explained_by is None)


@dataclass(slots=True)
class Memory:
    """Figures remembered from one evaluation to the next, stored as JSON.

    `absent` counts the collections in a row without a metric of a service that was healthy.
    """

    seen: dict[str, float] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, float] = field(default_factory=dict)
    grades: dict[str, str] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    kept_scores: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    scored_at: float = 0.0
    forecast_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MonitoringSnapshot:
    """An observation with everything that decides how it is judged."""

    observation: Observation
    environment: Environment
    quiet: QuietServices
    windows: Sequence[MaintenanceWindow]
    predictions: Sequence[Prediction]
    verdicts: Mapping[str, ServiceVerdict]

    @property
    def at(self) -> datetime:
        """Moment of the observation."""
        return self.observation.at

    def signal(self, service: str, metric: str, level: Level, reason: str, **more: Any) -> Signal:
        """A signal of this moment."""
        return Signal(service=service, metric=metric, at=self.at, level=level, reason=reason, **more)

    def is_in_maintenance(self, service: str) -> bool:
        """Whether a maintenance window covers the service."""
        return any(window.covers(service, self.at) for window in self.windows)

    def may_be_down(self, service: str) -> bool:
        """Whether the service may be down: stopped on purpose, under an operation or under maintenance."""
        return self.quiet.idle or service in self.quiet.busy or self.is_in_maintenance(service)

    def is_unhealthy(self, service: str) -> bool:
        """Whether the service was judged unhealthy."""
        verdict = self.verdicts.get(service)
        return verdict is not None and verdict.health in UNHEALTHY_STATES


class MonitoringState:
    """The states remembered before (`previous`), those to store now (`kept`), and the results of evaluators."""

    def __init__(self, previous: Mapping[Key, bytes]) -> None:
        self.previous, self.kept = previous, dict[Key, bytes]()
        self.unreadable: list[str] = []
        self.firing: Mapping[Key, Alert] = {}
        self.judgements: list[tuple[Metric, Judgement]] = []
        self.baselines: list[Baseline] = []
        self.surprises: dict[str, float] = {}
        self.predictions: list[Prediction] = []
        self.memory = self._read_memory()

    def readable(self, key: Key, read: Callable[[bytes | None], object]) -> bytes | None:
        """Return the remembered state, None if `read` cannot read it."""
        state = self.previous.get(key)
        try:
            read(state)
        except BadInputError:
            self.unreadable.append("/".join(key))
            return None
        return state

    def keep_memory(self) -> None:
        """Add the memory to the states to store."""
        self.kept[_MEMORY] = orjson.dumps(self.memory)

    def _read_memory(self) -> Memory:
        state = self.previous.get(_MEMORY)
        try:
            return Memory(**orjson.loads(state)) if state else Memory()
        except (ValueError, TypeError):
            self.unreadable.append("the memory of the last evaluation")
            return Memory()


Evaluator = Callable[[MonitoringSnapshot, MonitoringState], list[Signal]]
"""Adds what it remembers and finds to the state and returns its signals."""
