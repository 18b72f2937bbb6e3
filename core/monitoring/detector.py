"""Score how surprising each value of a metric is, by nothing but the values before it.

A value is surprising in several ways at once. Each way is turned into points by its rank in the metric's own
history, so no scale has to be guessed, and the points are added. A value that adds nothing to one of the last 75
rows scores 0: one incident, one score.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from core.monitoring.detector_state import (
    SEEN_OFTEN,
    HourlyProfile,
    MovingMean,
    Range,
    RarityHistogram,
    RecentScores,
    RunningHour,
    StoredState,
    WindowMean,
    take,
)
from models.failures import BadInputError

NOTICE = 0.52
"""From this score on a row is worth showing."""

ALERT = 0.60
"""From this score on a row may be worth sending, if the next row confirms it: see Episode."""

WARM_UP_ROWS = 200

WEIGHTS = {
    "range": 3.0,
    "hour": 0.35,
    "recent": 0.35,
    "hour range": 0.75,
    "record": 0.5,
    "short shift": 0.35,
    "long shift": 0.35,
    "level": 0.35,
}

_HALF_SCORE = 4.25
_SHORT_ROWS = 48
_LONG_ROWS = 288
_RANKED = ("hour", "recent", "short shift", "long shift", "level")
_MEMORY_ROWS = 2000
TOO_LARGE = 1e100
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How surprising one value is: 0 (not at all) to 1.

    `raw` is the score before the rest after a higher one; `parts` are the points of each kind of surprise;
    `usual` is the value that was to be expected at this hour.
    `settled` is False while fewer than 200 rows were seen: show such a score, never send it. The reason is
    empty below the level of a notice.
    """

    value: float
    raw: float
    reason: str
    parts: dict[str, float]
    usual: float
    settled: bool


class Detector:
    """Scores a stream of values, one at a time. Its state is a few kilobytes and survives the process."""

    def __init__(self) -> None:
        """Start without history."""
        self._rows = 0
        self._started = math.nan
        self._total = 0.0
        self._size = 0.0
        self._hour = RunningHour()
        self._known, self._known_residual = Range(), Range()
        self._completed, self._recent, self._weekly = HourlyProfile(24), HourlyProfile(24), HourlyProfile(168)
        self._level, self._long, self._short = WindowMean(_LONG_ROWS), WindowMean(_LONG_ROWS), WindowMean(_SHORT_ROWS)
        self._smooth = MovingMean()
        self._ranks = {name: RarityHistogram() for name in _RANKED}
        self._spoken = RecentScores()

    def update(self, at: datetime | None, value: float) -> Score:
        """Score one value, then learn it. Without a time the hour of the day is not taken into account.

        Raises BadInputError for a value that is not a finite number below 1e100.
        """
        if not abs(value) < TOO_LARGE:
            raise BadInputError(f"A value of {value} cannot be judged;", advice="leave the row out.")
        hour = self._hours_since_start(at)
        if self._hour.number != hour:
            self._finish_hour(hour)
        mean = self._total / self._rows if self._rows else value
        width = max(self._known.width, 1e-9 * abs(value), 1e-300)
        by_day = self._recent.usual(hour, mean)
        usual = self._weekly.usual(hour, by_day) if self._weekly.seen(hour) > SEEN_OFTEN else by_day
        completed = self._completed.usual(hour, mean)
        residual = value - usual

        points = {
            "range": self._known.novelty(value),
            "hour": self._rank("hour", value - completed),
            "recent": self._rank("recent", residual),
            "hour range": self._novel_residual(hour, value),
            "record": self._smooth.record(value, 0.02 * width),
            "short shift": self._rank("short shift", self._short.push(self._clipped(residual))),
            "long shift": self._rank("long shift", self._long.push(residual)),
            "level": self._rank("level", self._level.push(value) - mean),
        }
        parts = {name: WEIGHTS[name] * surprise for name, surprise in points.items()}
        total = math.fsum(parts.values())
        raw = total / (total + _HALF_SCORE)
        passed = self._spoken.passes(self._rows, raw)
        reason = self._reason(parts, value, completed, mean) if raw >= NOTICE and passed else ""

        self._recent.learn(hour, value, least=0.02)
        self._weekly.learn(hour, value, least=0.05)
        self._hour.add(value)
        self._total += value
        self._rows += 1
        return Score(
            value=raw if passed else 0.0,
            raw=raw,
            reason=reason,
            parts=parts,
            usual=completed,
            settled=self._rows > WARM_UP_ROWS,
        )

    def to_state(self) -> bytes:
        """Return the state from which `from_state` continues with identical scores."""
        numbers = [_VERSION, self._rows, self._started, self._total, self._size]
        for part in self._kept():
            numbers += part.numbers()
        return array("d", numbers).tobytes()

    @classmethod
    def from_state(cls, state: bytes) -> Detector:
        """Continue from a state of `to_state`. Raises BadInputError for bytes of another kind or version."""
        numbers = array("d")
        try:
            numbers.frombytes(state)
            source, detector = iter(numbers), cls()
            version, rows, detector._started, detector._total, detector._size = take(source, 5)
            if version != _VERSION:
                raise ValueError(version)
            detector._rows = int(rows)
            for part in detector._kept():
                part.read(source)
        except (ValueError, OverflowError) as error:
            raise BadInputError("The state of a detector is not readable;", advice="start anew.") from error
        return detector

    def _kept(self) -> tuple[StoredState, ...]:
        ranges, profiles = (self._known, self._known_residual), (self._completed, self._recent, self._weekly)
        means = (self._level, self._long, self._short, self._smooth)
        return (self._hour, *ranges, *profiles, *means, *self._ranks.values(), self._spoken)

    def _hours_since_start(self, at: datetime | None) -> int:
        if at is None:
            return 0
        moment = at.timestamp()
        if math.isnan(self._started):
            self._started = moment
        return int((moment - self._started) // 3600)

    def _finish_hour(self, hour: int) -> None:
        if self._hour.count:
            self._completed.learn(self._hour.number, self._hour.total / self._hour.count, least=0.2)
        self._hour.begin(hour)

    def _rank(self, name: str, statistic: float) -> float:
        return self._ranks[name].surprise(abs(statistic))

    def _novel_residual(self, hour: int, value: float) -> float:
        novelty = self._known_residual.novelty(value - self._recent.usual(hour, value))
        return novelty if self._rows > _LONG_ROWS else 0.0

    def _clipped(self, residual: float) -> float:
        """A single spike is no shift: so no row moves the short mean by more than five usual residuals."""
        if self._rows:
            self._size += (abs(residual) - self._size) * max(1 / (self._rows + 1), 1 / _MEMORY_ROWS)
        return max(-5 * self._size, min(5 * self._size, residual))

    def _reason(self, parts: dict[str, float], value: float, completed: float, mean: float) -> str:
        most = max(parts, key=parts.__getitem__)
        if most == "range":
            low, high = self._known.before
            side = "above" if value > high else "below"
            return f"{value:.4g} is {side} everything seen in {self._rows} rows ({low:.4g} to {high:.4g})"
        if most in {"hour", "recent", "hour range"}:
            return f"{value:.4g} is unusual at this hour, which had {completed:.4g} on average"
        if most == "record":
            return f"{value:.4g} is the largest jump from the recent mean in {self._rows} rows"
        rows = _SHORT_ROWS if most == "short shift" else _LONG_ROWS
        return f"the mean of the last {rows} rows has moved away from the usual {mean:.4g}"


def detect_csv(lines: Iterable[str]) -> Iterator[str]:
    """Score a CSV with the columns timestamp and value: the same rows, with anomaly_score beside them.

    An empty timestamp is allowed. Raises BadInputError naming the line that cannot be used.
    """
    rows = csv.reader(lines)
    advice = "give one timestamp and one value a line."
    try:
        header = [name.strip().lstrip("\ufeff") for name in next(rows, [])]
        if header != ["timestamp", "value"]:
            raise BadInputError(
                f"Line 1 should be the header 'timestamp,value', not {','.join(header)!r};",
                advice="give a CSV with these two columns.",
            )
        yield "timestamp,value,anomaly_score"
        detector = Detector()
        for row in filter(None, rows):
            if len(row) != len(header):
                raise BadInputError(f"Line {rows.line_num} has {len(row)} columns instead of 2;", advice=advice)
            score = detector.update(_time(row[0], rows.line_num), _number(row[1], rows.line_num))
            yield f"{row[0]},{row[1]},{score.value:.6f}"
    except csv.Error as error:
        raise BadInputError(f"Line {rows.line_num} is not CSV: {error};", advice=advice) from error


def _time(text: str, line: int) -> datetime | None:
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInputError(
            f"Line {line} has {text!r} where a time should be;", advice="write it as 2026-03-02 14:05:00."
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _number(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise BadInputError(
            f"Line {line} has {text!r} where a number should be;", advice="leave the row out."
        ) from error
    if not abs(value) < TOO_LARGE:
        raise BadInputError(f"Line {line} has a value of {text}, which cannot be judged;", advice="leave it out.")
    return value
