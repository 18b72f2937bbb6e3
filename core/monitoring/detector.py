"""Score how surprising each value of a metric is, by nothing but the values before it.

A score adds three surprises: how far the value jumped from what was expected, and by half its weight each, how far
it lies outside the range of the metric, and how far the level of its last rows has shifted. Each is measured in the
metric's own usual size of the same quantity, which forgets, so no scale has to be guessed. A value that adds nothing
to one of the last 75 rows scores 0: one incident, one score. docs/adr/0048-detector.md has the figures.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from core.monitoring.detector_state import (
    Forecasts,
    ForgettingMean,
    HourlyProfile,
    Range,
    RarityHistogram,
    RecentScores,
    RunningHour,
    StoredState,
    UsualSize,
    WindowMean,
    take,
)
from models.failures import BadInputError

NOTICE = 0.5
"""From this score on a row is worth showing, and worth sending if the next row confirms it: see Episode."""

WARM_UP_ROWS = 200

_HALF_SCORE = 3.05
"""The sum of surprises that scores 0.5: the best threshold over all corpora of the ADR."""

_FIRST_ROWS = 3
_SHIFT_ROWS = 48
_FLOOR = 0.05
"""No usual size is less than this share of the metric's spread: where all is regular, anything would be a surprise."""

_MOST_SPREADS = 100.0
TOO_LARGE = 1e100
_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How surprising one value is: 0 (not at all) to 1.

    `raw` is the score before the rest after a higher one; `parts` are the points of each kind of surprise;
    `usual` is the value that was to be expected at this hour, `rarity` the share of earlier rows that were at least
    as far from theirs. `settled` is False while fewer than 200 rows were seen: show such a score, never send it.
    The reason is empty below the level of a notice.
    """

    value: float
    raw: float
    reason: str
    parts: dict[str, float]
    usual: float
    rarity: float
    settled: bool


class Detector:
    """Scores a stream of values, one at a time. Its state is a few kilobytes and survives the process."""

    def __init__(self) -> None:
        """Start without history."""
        self._rows = 0
        self._started = math.nan
        self._total = 0.0
        self._hour, self._profile = RunningHour(), HourlyProfile()
        self._forecasts, self._known = Forecasts(), Range()
        self._spread, self._jumps, self._shifts = UsualSize(), UsualSize(), UsualSize()
        self._level, self._longer = WindowMean(_SHIFT_ROWS), ForgettingMean()
        self._distances, self._spoken = RarityHistogram(), RecentScores()

    def update(self, at: datetime | None, value: float) -> Score:
        """Score one value, then learn it. Without a time the hour of the day is not taken into account.

        Raises BadInputError for a value that is not a finite number below 1e100.
        """
        if not abs(value) < TOO_LARGE:
            raise BadInputError(f"A value of {value} cannot be judged;", advice="leave the row out.")
        hour = self._hours_since_start(at)
        if self._hour.number != hour:
            self._finish_hour(hour)
        near = self._clip(value)
        mean = self._total / self._rows if self._rows else value
        usual = self._profile.usual(hour, mean)
        parts = self._surprises(near, self._forecasts.error(near, self._profile.usual(hour, math.nan)))
        total = math.fsum(parts.values())
        raw = total / (total + _HALF_SCORE)
        passed = self._spoken.passes(self._rows, raw)
        reason = self._reason(parts, value, usual, mean) if raw >= NOTICE and passed else ""
        rarity = 10 ** -self._distances.surprise(abs(value - usual))

        self._hour.add(near)
        self._total += near
        self._rows += 1
        return Score(
            value=raw if passed else 0.0,
            raw=raw,
            reason=reason,
            parts=parts,
            usual=usual,
            rarity=rarity,
            settled=self._rows > WARM_UP_ROWS,
        )

    def to_state(self) -> bytes:
        """Return the state from which `from_state` continues with identical scores."""
        numbers = [_VERSION, self._rows, self._started, self._total]
        for part in self._states_to_keep():
            numbers += part.numbers()
        return array("d", numbers).tobytes()

    @classmethod
    def from_state(cls, state: bytes) -> Detector:
        """Continue from a state of `to_state`. Raises BadInputError for bytes of another kind or version."""
        numbers = array("d")
        try:
            numbers.frombytes(state)
            source, detector = iter(numbers), cls()
            version, rows, detector._started, detector._total = take(source, 4)
            if version != _VERSION:
                raise ValueError(version)
            detector._rows = int(rows)
            for part in detector._states_to_keep():
                part.read(source)
        except (ValueError, OverflowError) as error:
            raise BadInputError("The state of a detector is not readable;", advice="start anew.") from error
        return detector

    def _states_to_keep(self) -> tuple[StoredState, ...]:
        sizes, means = (self._spread, self._jumps, self._shifts), (self._level, self._longer)
        return (self._hour, self._profile, self._forecasts, self._known, *sizes, *means, self._distances, self._spoken)

    def _hours_since_start(self, at: datetime | None) -> int:
        if at is None:
            return 0
        moment = at.timestamp()
        if math.isnan(self._started):
            self._started = moment
        return int((moment - self._started) // 3600)

    def _finish_hour(self, hour: int) -> None:
        if self._hour.count:
            self._profile.learn(self._hour.number, self._hour.total / self._hour.count, least=0.2)
        self._hour.begin(hour)

    def _clip(self, value: float) -> float:
        """The value, at most 100 spreads from the mean: one absurd value must not make the metric deaf for days."""
        most = _MOST_SPREADS * self._spread.value
        return max(self._longer.value - most, min(self._longer.value + most, value)) if most else value

    def _surprises(self, value: float, error: float) -> dict[str, float]:
        """The points of each kind of surprise. `error` is how far the value is from its forecast."""
        mean = self._longer.value if self._rows else value
        least = max(_FLOOR * self._spread.value, 1e-9 * abs(value), 1e-300)
        self._spread.learn(value - mean)
        self._longer.learn(value)
        outside = self._known.outside(value) / max(self._jumps.value, least)
        jump = self._jumps.compare(error, least)
        shift = self._shifts.compare(self._level.push(value) - mean, least)
        return {
            "jump": math.log1p(jump) if self._rows > _FIRST_ROWS else 0.0,
            "range": 0.5 * math.log1p(outside) if self._rows > _FIRST_ROWS else 0.0,
            "shift": 0.5 * math.log1p(shift) if self._rows >= _SHIFT_ROWS else 0.0,
        }

    def _reason(self, parts: dict[str, float], value: float, usual: float, mean: float) -> str:
        low, high = self._known.before
        if not low <= value <= high:
            side = "above" if value > high else "below"
            return f"{value:.4g} is {side} everything seen in {self._rows} rows ({low:.4g} to {high:.4g})"
        if parts["shift"] > parts["jump"]:
            return f"the mean of the last {_SHIFT_ROWS} rows has moved away from the usual {mean:.4g}"
        return f"{value:.4g} is a larger jump than usual; this hour had {usual:.4g} on average"


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
