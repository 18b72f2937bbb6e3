"""Judgements of metrics, scores of services and trends of operations, and the advice they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from models.metrics import Alert


class Level(StrEnum):
    """How far a value is from its baseline; a notice is shown, never sent."""

    NONE = "none"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for none to 3 for critical, to compare levels."""
        return _RANKS[self]


_RANKS = {level: place for place, level in enumerate(Level)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Judgement of one value. `threshold` is the bound it passed, in the metric's unit."""

    level: Level
    reason: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Number of good ones among a total."""

    good: int
    total: int

    @property
    def value(self) -> float | None:
        """Good over total, 0-1; None without any."""
        return self.good / self.total if self.total else None


class Grade(StrEnum):
    """A service's score in one letter: A from 90, B from 80, C from 70, D from 60, F below."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    F = "F"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceScore:
    """The health score of one service.

    Score, its bounds and its parts are points, 0-100. A part without data is None; `coverage` is the share
    of the weights that had data, 0-1. Without any data the score and the grade are None. `low` and `high`
    are what the score would be at the ends of the 95 % intervals of uptime and error rate.
    """

    service: str
    score: float | None
    low: float | None
    high: float | None
    grade: Grade | None
    coverage: float
    parts: dict[str, float | None]
    cap: str = ""
    suggestions: tuple[str, ...] = ()


class Direction(StrEnum):
    """Direction of a trend; `unknown`: too little data."""

    IMPROVING = "improving"
    STABLE = "stable"
    DECLINING = "declining"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A trend and its evidence. `change` is over the whole history: points for shares, a factor for times."""

    direction: Direction
    words: str
    samples: int
    p_value: float | None = None
    change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfOperations:
    """The deployment operations of one UTC day. Durations are of the successful ones, in milliseconds."""

    day: date
    total: int
    successes: int
    rate: float | None
    low: float | None
    high: float | None
    mean_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    failures_by_cause: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure with its end, as analysis needs it. `row` names where it is recorded."""

    row: str
    service: str
    cause: str
    began_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """How often a service failed and how long the repair took.

    `mttr` is the mean time to repair of the ended failures, `mtbf` the mean time between the starts of two failures;
    None with too few failures.
    """

    service: str
    cause: str
    failures: int
    unresolved: int
    mttr: timedelta | None
    mtbf: timedelta | None
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersOfDay:
    """Probe answers of one service on one UTC day: the good ones of all."""

    service: str
    day: date
    share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionOutcomes:
    """How often one recovery strategy was tried against one cause: with and without success, or still running."""

    strategy: str
    cause: str
    helped: int
    failed: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """An advice, its reason, and the rows it is based on."""

    advice: str
    because: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOfOperations:
    """The ended operations of one kind. The mean duration is of the successful ones, in milliseconds."""

    kind: str
    total: int
    successes: int
    rate: float | None
    low: float | None
    high: float | None
    mean_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The operations of one environment over some days, of all kinds together and of each kind.

    Trends are of starts alone: health checks that succeed all day would hide starts that fail.
    """

    environment: str
    since: datetime
    until: datetime
    total: int
    successes: int
    rate: float | None
    low: float | None
    high: float | None
    mean_ms: float | None
    kinds: tuple[KindOfOperations, ...]
    days: tuple[DayOfOperations, ...]
    success_trend: Trend
    performance_trend: Trend
    sudden_break: str
    repairs: tuple[Repair, ...]
    recommendations: tuple[Recommendation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When a metric will pass a threshold. `earliest` and `latest` enclose `expected`; 80 % of the time."""

    metric: str
    threshold: float
    value: float
    slope_per_hour: float
    expected: datetime
    earliest: datetime
    latest: datetime | None
    p_value: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One judged sample of a metric, the input of the alert rules.

    `level` is the worst judgement of the value. `missing`: there was no value to judge. `lasting`: the judge already
    waited for the value to last, so one sample is enough.
    """

    service: str
    metric: str
    at: datetime
    level: Level
    reason: str
    value: float | None = None
    threshold: float | None = None
    missing: bool = False
    lasting: bool = False


class AlertChange(StrEnum):
    """Change of an alert in one evaluation."""

    OPENED = "opened"
    RAISED = "raised"
    REMINDED = "reminded"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """A change of an alert to be stored or sent. `children` are the alerts it explains."""

    change: AlertChange
    alert: Alert
    children: tuple[str, ...] = ()
