"""Anomalies: how surprising each value of a metric is, judged by nothing but the values before it.

A value is surprising in several ways at once; each way is turned into points by its rank in the metric's own
history, so that no scale has to be guessed, and the points are added. A value that tells no more than one of
the last 75 rows already told scores 0: one incident, one score.
"""

from __future__ import annotations

import csv
import math
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import NormalDist
from typing import Protocol

import orjson

from models.analysis import Judgement, Level
from models.failures import BadInputError

NOTICE = 0.52
"""From this score on a row is worth showing."""

ALERT = 0.60
"""From this score on a row may be worth sending, if the next row confirms it: see Episode."""

WARM_UP_ROWS = 200

_WEIGHTS = {
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
_QUIET_ROWS = 75
_SHORT_ROWS = 48
_LONG_ROWS = 288
_MARGIN = 0.05
_OVERSHOOT_SHARE = 0.7
_FIRST_ROWS = 20
_MOST = 6.0
_SPAN = 50
_FADE = 2 / (_SPAN + 1)
_MEMORY_ROWS = 2000
_TOO_LARGE = 1e100
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

    __slots__ = (
        "_completed",
        "_hour",
        "_known",
        "_known_residual",
        "_level",
        "_long",
        "_ranks",
        "_recent",
        "_rows",
        "_short",
        "_size",
        "_smooth",
        "_spoken",
        "_started",
        "_total",
        "_weekly",
    )

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._rows = 0
        self._started = math.nan
        self._total = 0.0
        self._size = 0.0
        self._hour = _Hour()
        self._known, self._known_residual = _Range(), _Range()
        self._completed, self._recent, self._weekly = _Profile(24), _Profile(24), _Profile(168)
        self._level, self._long, self._short = _Window(_LONG_ROWS), _Window(_LONG_ROWS), _Window(_SHORT_ROWS)
        self._smooth = _Smooth()
        self._ranks = {name: _Rank() for name in _RANKED}
        self._spoken = _Spoken()

    def update(self, at: datetime | None, value: float) -> Score:
        """Score one value, then learn it. Without a time the hour of the day is not taken into account.

        Raises BadInputError for a value that is not a finite number below 1e100.
        """
        if not abs(value) < _TOO_LARGE:
            raise BadInputError(f"A value of {value} cannot be judged;", advice="leave the row out.")
        hour = self._hours_since_start(at)
        if self._hour.number != hour:
            self._finish_hour(hour)
        mean = self._total / self._rows if self._rows else value
        width = max(self._known.width, 1e-9 * abs(value), 1e-300)
        by_day = self._recent.usual(hour, mean)
        usual = self._weekly.usual(hour, by_day) if self._weekly.seen(hour) > _SEEN_OFTEN else by_day
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
        parts = {name: _WEIGHTS[name] * surprise for name, surprise in points.items()}
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
        """Everything needed to go on with identical scores, as bytes."""
        numbers = [_VERSION, self._rows, self._started, self._total, self._size]
        for part in self._kept():
            numbers += part.numbers()
        return array("d", numbers).tobytes()

    @classmethod
    def from_state(cls, state: bytes) -> Detector:
        """Go on where `to_state` was taken. Raises BadInputError for bytes of another kind or version."""
        numbers = array("d")
        try:
            numbers.frombytes(state)
            source = _Source(numbers.tolist())
            detector = cls()
            version, rows, detector._started, detector._total, detector._size = source.take(5)
            if version != _VERSION:
                raise ValueError(version)
            detector._rows = int(rows)
            for part in detector._kept():
                part.read(source)
        except (ValueError, OverflowError) as error:
            raise BadInputError("The state of a detector is not readable;", advice="start anew.") from error
        return detector

    def _kept(self) -> tuple[_StoredState, ...]:
        return (
            self._hour,
            self._known,
            self._known_residual,
            self._completed,
            self._recent,
            self._weekly,
            self._level,
            self._long,
            self._short,
            self._smooth,
            *self._ranks.values(),
            self._spoken,
        )

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorResult:
    """One value after the detector and the rules: the state to keep, the score, and the worst judgement.

    `lasting` says that the judgement has waited for the trouble to last; otherwise, ask for a second look.
    `low` that it is no more than a value below the usual, which for most metrics is good news.
    """

    state: bytes
    score: Score
    judgement: Judgement
    lasting: bool
    low: bool


def watch_metric(state: bytes | None, at: datetime | None, value: float) -> DetectorResult:
    """Score one value of a metric and hold it against the rules, from the state of the last one.

    Raises BadInputError for a value that is no number, or for a state of another kind or version.
    """
    detector, episode, drift, lift, stuck, zero = _take_up(state)
    score = detector.update(at, value)
    rules: tuple[Episode | DriftRule | LiftRule | StuckRule | ZeroRule, ...] = (
        episode.after(score, value),
        drift.after(score, value),
        lift.after(value),
        stuck.after(value),
        zero.after(value),
    )
    judged = [rule.judge() for rule in rules]
    judgement = max(judged, key=lambda one: one.level.rank)
    rule = rules[judged.index(judgement)]
    kept = orjson.dumps(rules, option=orjson.OPT_SERIALIZE_NUMPY)
    return DetectorResult(
        state=_LENGTH.pack(len(kept)) + kept + detector.to_state(),
        score=score,
        judgement=judgement,
        lasting=judgement.level is Level.WARNING,
        low=isinstance(rule, (Episode, DriftRule)) and value < score.usual,
    )


def detect_csv(lines: Iterable[str]) -> Iterator[str]:
    """Score a CSV with the columns timestamp and value: the same rows, with anomaly_score beside them.

    An empty timestamp is allowed. Raises BadInputError naming the line that cannot be used.
    """
    rows = _numbered_rows(lines)
    header = [name.strip().lstrip("\ufeff") for name in next(rows, (1, []))[1]]
    if header != ["timestamp", "value"]:
        raise BadInputError(
            f"Line 1 should be the header 'timestamp,value', not {','.join(header)!r};",
            advice="give a CSV with these two columns.",
        )
    yield "timestamp,value,anomaly_score"
    detector = Detector()
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise BadInputError(
                f"Line {number} has {len(row)} columns instead of 2;",
                advice="give one timestamp and one value a line.",
            )
        score = detector.update(_time(row[0], number), _number(row[1], number))
        yield f"{row[0]},{row[1]},{score.value:.6f}"


def _numbered_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(lines)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise BadInputError(
            f"Line {rows.line_num} is not CSV: {error};", advice="give one timestamp and one value a line."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Whether a surprise lasts: a single odd row is shown, only what stays is worth an alert.

    An episode begins with the score of an alert and goes on while values stay at least half as far from
    `usual` as in its first row, which was `distance` away, in the metric's unit. `rows` counts them.
    """

    usual: float = 0.0
    distance: float = 0.0
    rows: int = 0
    reason: str = ""

    def after(self, score: Score, value: float) -> Episode:
        """The episode, if any, after one more scored value."""
        if self.rows and (value - self.usual) / self.distance >= 0.5:
            return replace(self, rows=self.rows + 1)
        distance = value - score.usual
        if score.settled and score.value >= ALERT and distance:
            return Episode(usual=score.usual, distance=distance, rows=1, reason=score.reason)
        return Episode()

    def judge(self) -> Judgement:
        """A notice for its first row, a warning from the second on."""
        if not self.rows:
            return _QUIET
        level = Level.WARNING if self.rows > 1 else Level.NOTICE
        return Judgement(level=level, reason=self.reason, threshold=self.usual + self.distance / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRule:
    """Values that are each only a little odd, but row after row on the same side of the usual.

    `above` and `below` sum how far each row is from the usual at its hour, in standard deviations by rank,
    less one a row; `highest` is the largest sum that was no drift, `limit` the sum that began the one
    that lasts now, 0 while none does.
    """

    above: float = 0.0
    below: float = 0.0
    highest: float = 0.0
    limit: float = 0.0
    rows: int = 0
    reason: str = ""

    def after(self, score: Score, value: float) -> DriftRule:
        """The rule's memory after one more scored value."""
        rarity = 10 ** -(score.parts["hour"] / _WEIGHTS["hour"])
        away = min(_FAR, max(0.0, _NORMAL.inv_cdf(1 - max(rarity, 1e-6) / 2)))
        away = away if value > score.usual else -away
        most = 2 * max(self.limit, _DRIFT)
        above, below = (min(most, max(0.0, side - 1)) for side in (self.above + away, self.below - away))
        seen = replace(self, above=above, below=below, rows=self.rows + 1)
        sum_now = max(above, below)
        if self.limit:
            if sum_now >= self.limit / 2:
                return seen
            return replace(seen, highest=max(self.highest, self.limit), limit=0.0, reason="")
        limit = max(_DRIFT, 1.2 * self.highest)
        if sum_now > limit and self.rows >= _DRIFT_ROWS:
            side = "above" if above > below else "below"
            reason = f"row after row {side} the usual, {score.usual:.4g} at this hour; now {value:.4g}"
            return replace(seen, limit=limit, reason=reason)
        return replace(seen, highest=max(self.highest, sum_now))

    def judge(self) -> Judgement:
        """A warning while the drift lasts."""
        return Judgement(level=Level.WARNING, reason=self.reason) if self.limit else _QUIET


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftRule:
    """Values that are each nothing new, since the metric has bursts, but five of them in a row are.

    `last` are the latest five values; `low` and `high` the range of the lowest of any five in a row so far.
    `limit` is what all five passed when a lift began that lasts now, `peak` how high their lowest came.
    """

    last: tuple[float, ...] = ()
    low: float | None = None
    high: float = 0.0
    rows: int = 0
    limit: float | None = None
    peak: float = 0.0
    held: int = 0
    reason: str = ""

    def after(self, value: float) -> LiftRule:
        """The rule's memory after one more value."""
        seen = replace(self, last=(*self.last, value)[-_LIFT_ROWS:], rows=self.rows + 1)
        lowest = min(seen.last)
        if self.limit is not None:
            # What lasts for a quarter of the history is how this metric is now; what ends may return and be told again.
            usual_now = 4 * self.held >= self.rows
            if value > self.limit and not usual_now:
                return replace(seen, held=self.held + 1, peak=max(self.peak, lowest))
            high = self.peak if usual_now else min(self.peak, 2 * self.high - (self.low or 0.0))
            return replace(seen, limit=None, held=0, reason="", high=high)
        if len(seen.last) < _LIFT_ROWS:
            return seen
        if self.low is None:
            return replace(seen, low=lowest, high=lowest)
        width = self.high - self.low
        if self.rows >= WARM_UP_ROWS and width > 0 and lowest > self.high + _LIFT_MARGIN * width:
            never = f"as never in {self.rows} rows"
            reason = f"the last {_LIFT_ROWS} rows are all above {self.high:.4g}, {never}; now {value:.4g}"
            return replace(seen, limit=self.high, peak=lowest, reason=reason)
        return replace(seen, low=min(self.low, lowest), high=max(self.high, lowest))

    def judge(self) -> Judgement:
        """A warning while the lift lasts."""
        if self.limit is None:
            return _QUIET
        return Judgement(level=Level.WARNING, reason=self.reason, threshold=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRule:
    """A metric that usually moves has stood still for longer than ever: its source may hang.

    `moves` and `rows` count the history, `run` the equal values up to now, `longest` the longest such run
    that ended. A metric that stood still for a tenth of its rows is one that may.
    """

    last: float | None = None
    run: int = 0
    longest: int = 0
    moves: int = 0
    rows: int = 0

    def after(self, value: float) -> StuckRule:
        """The rule's memory after one more value."""
        if value == self.last:
            return replace(self, run=self.run + 1, rows=self.rows + 1)
        ended = max(self.longest, self.run)
        return StuckRule(last=value, run=1, longest=ended, moves=self.moves + 1, rows=self.rows + 1)

    def judge(self, *, least: int = 60) -> Judgement:
        """Warns from `least` equal rows on, if they are also more than twice the longest run so far."""
        steady = max(least, 2 * self.longest + 1)
        before = self.rows - self.run
        lively = before >= WARM_UP_ROWS and self.moves >= 0.9 * before
        if not lively or self.run < steady:
            return _QUIET
        return Judgement(
            level=Level.WARNING,
            reason=f"stands at exactly {self.last:.6g} for {self.run} rows; before, at most {self.longest}",
            threshold=float(steady),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroRule:
    """A metric that was never near zero has dropped to zero: its source may be gone.

    `low` is the lowest value of the history that was not part of a drop, `zeros` the rows of the drop.
    """

    low: float | None = None
    rows: int = 0
    zeros: int = 0

    def after(self, value: float) -> ZeroRule:
        """The rule's memory after one more value."""
        if self._is_drop(value):
            # A drop that lasts for a quarter of the history is how this metric is now.
            if 4 * (self.zeros + 1) < self.rows:
                return replace(self, zeros=self.zeros + 1)
            return ZeroRule(low=value, rows=self.rows + 1)
        low = value if self.low is None else min(self.low, value)
        return ZeroRule(low=low, rows=self.rows + 1)

    def judge(self) -> Judgement:
        """Critical while the last value is a drop."""
        if not self.zeros:
            return _QUIET
        return Judgement(
            level=Level.CRITICAL,
            reason=f"dropped to zero; in {self.rows} rows it was never below {self.low:.4g}",
            threshold=self.low,
        )

    def _is_drop(self, value: float) -> bool:
        if self.low is None or self.low <= 0 or self.rows < WARM_UP_ROWS:
            return False
        return abs(value) <= 0.02 * self.low


def judge_silence(last_seen: datetime | None, now: datetime, *, every: timedelta) -> Judgement:
    """Whether a metric that should come `every` so often has stayed away: a warning after three, critical
    after ten times."""
    if last_seen is None:
        return _QUIET
    silent = now - last_seen
    if silent <= 3 * every:
        return _QUIET
    level = Level.CRITICAL if silent > 10 * every else Level.WARNING
    seconds = silent.total_seconds()
    return Judgement(
        level=level,
        reason=f"no data for {seconds:.0f} s; it should come every {every.total_seconds():.0f} s",
        threshold=3 * every.total_seconds(),
    )


_QUIET = Judgement(level=Level.NONE, reason="")
_RANKED = ("hour", "recent", "short shift", "long shift", "level")
_SEEN_OFTEN = 3
_NORMAL = NormalDist()
_FAR = 3.0
_DRIFT = 6.0
_DRIFT_ROWS = 1000
_LIFT_ROWS = 5
_LIFT_MARGIN = 0.15
_LENGTH = struct.Struct("<I")


class _Source:
    """The numbers of a state, in the order they were written."""

    __slots__ = ("_numbers", "_place")

    def __init__(self, numbers: list[float]) -> None:
        self._numbers, self._place = numbers, 0

    def take(self, count: int) -> list[float]:
        """The next so many. Raises ValueError where the state has less."""
        begin, self._place = self._place, self._place + count
        if count < 0 or self._place > len(self._numbers):
            raise ValueError(f"{count} numbers more at {begin} of {len(self._numbers)}")
        return self._numbers[begin : self._place]


class _StoredState(Protocol):
    """A part of a detector that goes into its state."""

    def numbers(self) -> Iterable[float]: ...

    def read(self, source: _Source) -> None: ...


class _Range:
    """The range of everything seen, growing by at most its own width a row: one absurd value is not enough.

    A metric whose records were beaten by much will beat them by much again: so the margin outside the range
    is 5 % of its width or, if that is more, a share of how far past records lay outside.
    """

    __slots__ = ("_overshoot", "_records", "before", "high", "low", "rows")

    def __init__(self) -> None:
        self.low, self.high, self.rows = math.nan, math.nan, 0
        self._overshoot, self._records = 0.0, 0
        self.before = (math.nan, math.nan)

    @property
    def width(self) -> float:
        return self.high - self.low if self.rows else 0.0

    def novelty(self, value: float) -> float:
        """How far outside, in margins, at most 6; the value is known afterwards."""
        self.rows += 1
        if self.rows == 1:
            self.low = self.high = value
            return 0.0
        self.before = (self.low, self.high)
        outside = max(value - self.high, self.low - value)
        if outside <= 0:
            return 0.0
        width = self.high - self.low
        if width <= 1e-9 * max(abs(self.low), abs(self.high)):
            self.low, self.high = min(self.low, value), max(self.high, value)
            return _MOST if self.rows > _SEEN_OFTEN else 0.0
        margin = max(_MARGIN, _OVERSHOOT_SHARE * self._overshoot)
        if self.rows > _FIRST_ROWS:
            self._records += 1
            self._overshoot += (min(outside / width, 1.0) - self._overshoot) / (self._records + 1)
        if value > self.high:
            self.high = min(value, self.high + width)
        else:
            self.low = max(value, self.low - width)
        return min(_MOST, outside / (margin * width))

    def numbers(self) -> Iterable[float]:
        return self.low, self.high, self.rows, self._overshoot, self._records

    def read(self, source: _Source) -> None:
        self.low, self.high, rows, self._overshoot, records = source.take(5)
        self.rows, self._records = int(rows), int(records)


class _Rank:
    """How rare a statistic is in its own history: minus the decimal logarithm of its tail probability.

    The history is a histogram over the logarithm, in steps of 10 %, around the first size seen.
    """

    __slots__ = ("_anchor", "_bottom", "_counts", "_rows", "_top")

    _BINS = 256

    def __init__(self) -> None:
        self._counts = [0.0] * self._BINS
        self._rows, self._bottom, self._top, self._anchor = 0, 0, 0, math.nan

    def surprise(self, size: float) -> float:
        place = self._place(size)
        counts = self._counts
        rarer = 0.5 * counts[place]
        if place < self._top:
            rarer += sum(counts[place + 1 : self._top + 1])
        self._rows += 1
        points = -math.log10((rarer + 0.5) / self._rows) if self._rows > 2 else 0.0
        counts[place] += 1
        self._top = max(self._top, place)
        self._bottom = min(self._bottom, place) if self._rows > 1 else place
        return points

    def _place(self, size: float) -> int:
        if size == 0.0:
            return 0
        logarithm = math.log(size)
        if math.isnan(self._anchor):
            self._anchor = logarithm
        return min(self._BINS - 1, max(0, int(10 * (logarithm - self._anchor) + self._BINS // 2)))

    def numbers(self) -> Iterable[float]:
        return self._anchor, self._rows, self._top, self._bottom, *self._counts[self._bottom : self._top + 1]

    def read(self, source: _Source) -> None:
        self._anchor, rows, top, bottom = source.take(4)
        self._rows, self._top, self._bottom = int(rows), int(top), int(bottom)
        self._counts[self._bottom : self._top + 1] = source.take(self._top + 1 - self._bottom)


class _Profile:
    """A mean for each hour of a day or a week, the recent weighing more."""

    __slots__ = ("_counts", "_means")

    def __init__(self, hours: int) -> None:
        self._means = [0.0] * hours
        self._counts = [0.0] * hours

    def usual(self, hour: int, otherwise: float) -> float:
        place = hour % len(self._means)
        return self._means[place] if self._counts[place] else otherwise

    def seen(self, hour: int) -> float:
        return self._counts[hour % len(self._means)]

    def learn(self, hour: int, value: float, *, least: float) -> None:
        place = hour % len(self._means)
        self._counts[place] += 1
        self._means[place] += (value - self._means[place]) * max(1 / self._counts[place], least)

    def numbers(self) -> Iterable[float]:
        return *self._means, *self._counts

    def read(self, source: _Source) -> None:
        hours = len(self._means)
        self._means, self._counts = source.take(hours), source.take(hours)


class _Window:
    """The mean of the last so many values."""

    __slots__ = ("_place", "_size", "_sum", "_values")

    def __init__(self, size: int) -> None:
        self._size, self._place, self._sum = size, 0, 0.0
        self._values: list[float] = []

    def push(self, value: float) -> float:
        if len(self._values) < self._size:
            self._values.append(value)
            self._sum += value
        else:
            self._sum += value - self._values[self._place]
            self._values[self._place] = value
            self._place = (self._place + 1) % self._size
            if self._place == 0:
                # Rounding errors of a large value that has left must not stay behind.
                self._sum = math.fsum(self._values)
        return self._sum / len(self._values)

    def numbers(self) -> Iterable[float]:
        return len(self._values), self._place, self._sum, *self._values

    def read(self, source: _Source) -> None:
        filled, place, self._sum = source.take(3)
        self._place, self._values = int(place), source.take(int(filled))


class _Smooth:
    """A moving mean of about 50 rows, and the largest distance from it, in its own fluctuations."""

    __slots__ = ("_largest", "_mean", "_rows", "_variance")

    def __init__(self) -> None:
        self._mean, self._variance, self._largest, self._rows = 0.0, 0.0, 0.0, 0

    def record(self, value: float, floor: float) -> float:
        """How far past the largest distance so far, in fifths of it, at most 6; the value is known afterwards."""
        if not self._rows:
            self._mean = value
        distance = value - self._mean
        size = abs(distance) / max(math.sqrt(self._variance), floor)
        points = 0.0
        if self._largest > 0 and self._rows > _SPAN:
            points = min(_MOST, max(0.0, 5 * (size / self._largest - 1)))
        if self._rows > _SPAN / 2:
            self._largest = max(self._largest, min(size, 2 * self._largest) if self._largest else size)
        self._mean += distance * _FADE
        self._variance = (1 - _FADE) * (self._variance + distance * distance * _FADE)
        self._rows += 1
        return points

    def numbers(self) -> Iterable[float]:
        return self._mean, self._variance, self._largest, self._rows

    def read(self, source: _Source) -> None:
        self._mean, self._variance, self._largest, rows = source.take(4)
        self._rows = int(rows)


class _Hour:
    """The hour that is running: its number since the start, and its values so far."""

    __slots__ = ("count", "number", "total")

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, number: int) -> None:
        self.number, self.total, self.count = number, 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    def numbers(self) -> Iterable[float]:
        return self.number, self.total, self.count

    def read(self, source: _Source) -> None:
        number, self.total, count = source.take(3)
        self.number, self.count = int(number), int(count)


class _Spoken:
    """The scores of the last rows that none after them has passed: a new one must pass them all."""

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: deque[tuple[int, float]] = deque()

    def passes(self, row: int, score: float) -> bool:
        highest = self._highest
        while highest and highest[0][0] < row - _QUIET_ROWS:
            highest.popleft()
        passed = not highest or score > highest[0][1]
        while highest and highest[-1][1] <= score:
            highest.pop()
        highest.append((row, score))
        return passed

    def numbers(self) -> Iterable[float]:
        return len(self._highest), *chain.from_iterable(self._highest)

    def read(self, source: _Source) -> None:
        (length,) = source.take(1)
        pairs = source.take(2 * int(length))
        self._highest.extend((int(row), score) for row, score in zip(pairs[::2], pairs[1::2], strict=True))


def _take_up(state: bytes | None) -> tuple[Detector, Episode, DriftRule, LiftRule, StuckRule, ZeroRule]:
    if state is None:
        return Detector(), Episode(), DriftRule(), LiftRule(), StuckRule(), ZeroRule()
    try:
        begins = _LENGTH.size
        ends = begins + int(_LENGTH.unpack_from(state)[0])
        episode, drift, lift, stuck, zero = orjson.loads(state[begins:ends])
        return (
            Detector.from_state(state[ends:]),
            Episode(**episode),
            DriftRule(**drift),
            LiftRule(**lift | {"last": tuple(lift["last"])}),
            StuckRule(**stuck),
            ZeroRule(**zero),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise BadInputError("The state of a watched metric is not readable;", advice="start anew.") from error


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
    if not abs(value) < _TOO_LARGE:
        raise BadInputError(f"Line {line} has a value of {text}, which cannot be judged;", advice="leave it out.")
    return value
