"""Compute the usual values of a metric by the hour of the day, and judge values by them.

Each full hour is stored as four numbers (10th, 50th, 90th percentile and maximum) for two weeks. A value is compared
with full hours only, so an incident does not change its own baseline within the hour.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from models.analysis import Judgement, Level
from models.failures import BadInputError
from models.metrics import Baseline

ENOUGH_SAMPLES = 200
ENOUGH_HOURS = 24
_HOURS_KEPT = 14 * 24
_HOURS_A_WEEK = 7 * 24
_BUFFER = 120
_DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_HEADER = struct.Struct("<BddIqHHHHd")
_VERSION = 1
_SECONDS_AN_HOUR = 3600

_Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]
"""One row an hour: 10th, 50th, 90th percentile and maximum; NaN where nothing was seen."""


def learn(state: bytes | None, at: datetime, value: float, *, frozen: bool = False) -> bytes:
    """The state after one more value; unchanged where frozen (an incident, a deployment) or out of order.

    Raises BadInputError for a value that is not a finite number or a state of another version.
    """
    _demand_number(value)
    history = _History.empty(at) if state is None else _History.read(state)
    if frozen or at.timestamp() < history.updated:
        return history.write() if state is None else state
    history.add(at.timestamp(), value)
    return history.write()


def baseline(state: bytes | None, *, service: str, metric: str) -> Baseline | None:
    """Return the baseline in the metric's unit; None before the first full hour, no thresholds before a day."""
    if state is None:
        return None
    history = _History.read(state)
    usual = _usual(history)
    if usual is None:
        return None
    return Baseline(
        service=service,
        metric=metric,
        value=usual.median,
        warning=usual.warning if history.enough else None,
        critical=usual.critical if history.enough else None,
        created_at=datetime.fromtimestamp(history.created, UTC),
        updated_at=datetime.fromtimestamp(history.updated, UTC),
        samples=history.samples,
    )


def judge(state: bytes | None, at: datetime, value: float, *, metric: str = "value") -> Judgement:
    """Judge how unusual a value is, before it is learnt.

    No judgement before a day and 200 values of history. Only a value that is too high can be more than a notice;
    explicit rules judge low values. Raises BadInputError for a value that is not a finite number.
    """
    _demand_number(value)
    history = None if state is None else _History.read(state)
    usual = None if history is None else _usual(history)
    if history is None or usual is None or not history.enough:
        samples, hours = (history.samples, len(history.hours)) if history else (0, 0)
        reason = f"still learning: {samples} of {ENOUGH_SAMPLES} values, {hours} of {ENOUGH_HOURS} hours"
        return Judgement(level=Level.NONE, reason=reason)
    band = _band_of(history.hours.tobytes(), history.last_hour, at.replace(minute=0, second=0, microsecond=0))
    level, threshold = _level(usual, band, value)
    return Judgement(level=level, reason=_sentence(history, usual, band, value, metric), threshold=threshold)


def describe_value(metric: str, value: float) -> str:
    """Write a value with the unit that its metric's name implies."""
    if metric.endswith("_bytes"):
        return _bytes_in_words(value)
    unit = "%" if metric.endswith(("_percent", "_usage")) else "ms"
    if unit == "ms" and not metric.endswith("_ms") and metric != "response_time":
        return f"{value:.4g}"
    return f"{value:.0f} {unit}" if abs(value) >= 10 else f"{value:.2g} {unit}"


@dataclass(slots=True)
class _History:
    created: float
    updated: float
    samples: int
    last_hour: int
    stride: int
    skipped: int
    peak: float
    buffer: list[float]
    hours: _Rows

    @classmethod
    def empty(cls, at: datetime) -> _History:
        moment = at.timestamp()
        hour = int(moment // _SECONDS_AN_HOUR)
        return cls(moment, moment, 0, hour, 1, 0, -np.inf, [], np.empty((0, 4), np.float32))

    @classmethod
    def read(cls, state: bytes) -> _History:
        if len(state) < _HEADER.size or state[0] != _VERSION:
            raise BadInputError("The state of a baseline is not readable;", advice="learn it anew.")
        _, created, updated, samples, last_hour, stride, skipped, filled, hour_count, peak = _HEADER.unpack_from(state)
        numbers = np.frombuffer(state, np.float32, offset=_HEADER.size)
        if len(numbers) != filled + 4 * hour_count:
            raise BadInputError("The state of a baseline is cut short;", advice="learn it anew.")
        buffer, hours = numbers[:filled].tolist(), numbers[filled:].reshape(hour_count, 4)
        return cls(created, updated, samples, last_hour, stride, skipped, peak, buffer, hours)

    def write(self) -> bytes:
        times, counts = (self.created, self.updated), (self.samples, self.last_hour, self.stride, self.skipped)
        header = _HEADER.pack(_VERSION, *times, *counts, len(self.buffer), len(self.hours), self.peak)
        return header + np.asarray(self.buffer, np.float32).tobytes() + self.hours.tobytes()

    @property
    def enough(self) -> bool:
        return self.samples >= ENOUGH_SAMPLES and len(self.hours) >= ENOUGH_HOURS

    def add(self, moment: float, value: float) -> None:
        hour = int(moment // _SECONDS_AN_HOUR)
        if hour > self.last_hour:
            self._close_hour(hour)
        self.samples += 1
        self.updated = moment
        self.peak = max(self.peak, value)
        self.skipped += 1
        if self.skipped < self.stride:
            return
        self.skipped = 0
        self.buffer.append(value)
        if len(self.buffer) >= _BUFFER:
            # A dense hour is thinned evenly, so that the state stays small whatever the sampling.
            self.buffer = self.buffer[1::2]
            self.stride *= 2

    def _close_hour(self, hour: int) -> None:
        rows = np.full((min(hour - self.last_hour, 1 + _HOURS_KEPT), 4), np.nan, np.float32)
        if self.buffer:
            rows[0] = (*np.quantile(self.buffer, (0.1, 0.5, 0.9)), self.peak)
        self.hours = np.concatenate([self.hours, rows])[-_HOURS_KEPT:]
        self.last_hour, self.buffer, self.peak, self.stride, self.skipped = hour, [], -np.inf, 1, 0


class _Usual(NamedTuple):
    median: float
    scale: float
    ceiling: float
    highest: float

    @property
    def warning(self) -> float:
        return self.ceiling + max(0.15 * (self.ceiling - self.median), 2 * self.scale)

    @property
    def critical(self) -> float:
        return self.ceiling + max(0.75 * (self.ceiling - self.median), 6 * self.scale)


class _Band(NamedTuple):
    low: float
    high: float
    words: str


def _usual(history: _History) -> _Usual | None:
    return _usual_of(history.hours.tobytes(), history.last_hour)


# One evaluation reads the same history several times; it changes once an hour.
@lru_cache(maxsize=1024)
def _usual_of(hours: bytes, last_hour: int) -> _Usual | None:
    all_rows: _Rows = np.frombuffer(hours, np.float32).reshape(-1, 4)
    rows = _known_rows(all_rows)
    if not len(rows):
        return None
    median = float(np.median(rows[:, 1]))
    within_the_hour = float(np.median(rows[:, 2] - rows[:, 0])) / 2.56
    highest = float(rows[:, 3].max())
    # A floor under the scale: a constant metric must not make every ripple look like a disaster.
    ceiling = _ceiling(all_rows, last_hour)
    scale = max(within_the_hour, 0.02 * abs(median), 0.01 * (ceiling - float(rows[:, 0].min())), 1e-9)
    return _Usual(median=median, scale=scale, ceiling=ceiling, highest=highest)


def _known_rows(rows: _Rows) -> _Rows:
    valid_rows: _Rows = rows[~np.isnan(rows[:, 1])]
    return valid_rows


def _ceiling(hours: _Rows, last_hour: int) -> float:
    """The highest value of the kept days; from a week on the second highest day, so one bad day may pass."""
    day = (last_hour - np.arange(len(hours), 0, -1)) // 24
    begins = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
    of_days = np.fmax.reduceat(hours[:, 3], begins)
    peaks = sorted(map(float, of_days[~np.isnan(of_days)]), reverse=True)
    return peaks[1] if len(peaks) >= 7 else peaks[0]


@lru_cache(maxsize=1024)
def _band_of(hours: bytes, last_hour: int, hour: datetime) -> _Band | None:
    rows: _Rows = np.frombuffer(hours, np.float32).reshape(-1, 4)
    back = int(hour.timestamp() // _SECONDS_AN_HOUR) - last_hour + np.arange(len(rows), 0, -1)
    weekly = _known_rows(rows[(back % _HOURS_A_WEEK == 0) & (back > 0)])
    if len(weekly) >= 2:
        when = f"on {_DAYS[hour.weekday()]} at {hour.hour} h"
        return _Band(low=float(weekly[:, 0].min()), high=float(weekly[:, 2].max()), words=when)
    daily = _known_rows(rows[(back % 24 == 0) & (back > 0)])
    if len(daily) >= 3:
        low, high = float(np.median(daily[:, 0])), float(np.median(daily[:, 2]))
        return _Band(low=low, high=high, words=f"at {hour.hour} h")
    return None


def _level(usual: _Usual, band: _Band | None, value: float) -> tuple[Level, float | None]:
    if value > usual.critical:
        return Level.CRITICAL, usual.critical
    if value > usual.warning:
        return Level.WARNING, usual.warning
    low, high = (usual.median, usual.median) if band is None else (band.low, band.high)
    margin = max(2 * usual.scale, 2 * (high - low))
    if value > high + margin:
        return Level.NOTICE, high + margin
    if value < low - margin:
        return Level.NOTICE, low - margin
    return Level.NONE, None


def _sentence(history: _History, usual: _Usual, band: _Band | None, value: float, metric: str) -> str:
    days = max(1, round(len(history.hours) / 24))
    past, highest = f"{days} days" if days > 1 else "one day", describe_value(metric, usual.highest)
    comparison = f"never above {highest} in {past}" if value > usual.highest else f"highest of {past} {highest}"
    if band is None:
        usual_range = f" {describe_value(metric, usual.median)}"
    else:
        low, high = describe_value(metric, band.low), describe_value(metric, band.high)
        unit = high[high.rfind(" ") :] if " " in high else ""
        low = low.removesuffix(unit)
        usual_range = f" {band.words}: {f'{low}-{high}' if low != high else high}"
    return f"{_metric_in_words(metric)} {describe_value(metric, value)}, {comparison}; usual{usual_range}"


def _metric_in_words(metric: str) -> str:
    words = metric.removesuffix("_percent").removesuffix("_bytes").removesuffix("_ms").replace("_", " ")
    return words.replace("cpu", "CPU") if words.startswith("cpu") else words[:1].upper() + words[1:]


def _bytes_in_words(value: float) -> str:
    size, (unit, *larger) = value, ("B", "KiB", "MiB", "GiB", "TiB")
    while abs(size) >= 1024 and larger:
        size, (unit, *larger) = size / 1024, larger
    return f"{size:.0f} {unit}" if abs(size) >= 10 or unit == "B" else f"{size:.1f} {unit}"


def _demand_number(value: float) -> None:
    if not np.isfinite(value):
        raise BadInputError(f"A metric's value was {value}, which is no number;", advice="leave the row out instead.")
