"""Parts of the state of a detector."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Protocol

_QUIET_ROWS = 75
_MARGIN = 0.05
_OVERSHOOT_SHARE = 0.7
_FIRST_ROWS = 20
_MOST = 6.0
_SPAN = 50
_FADE = 2 / (_SPAN + 1)
SEEN_OFTEN = 3


def take(source: Iterator[float], count: int) -> list[float]:
    """The next so many numbers of a state. Raises ValueError where it has less."""
    numbers = list(islice(source, count))
    if len(numbers) < count:
        raise ValueError(f"{count} numbers more, of {len(numbers)}")
    return numbers


class StoredState(Protocol):
    """A part of a detector that goes into its state."""

    def numbers(self) -> Iterable[float]: ...

    def read(self, source: Iterator[float]) -> None: ...


class Range:
    """The range of everything seen, growing by at most its own width a row: one absurd value is not enough.

    A metric whose records were beaten by much will beat them by much again: so the margin outside the range
    is 5 % of its width or, if that is more, a share of how far past records lay outside.
    """

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
            return _MOST if self.rows > SEEN_OFTEN else 0.0
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

    def read(self, source: Iterator[float]) -> None:
        self.low, self.high, rows, self._overshoot, records = take(source, 5)
        self.rows, self._records = int(rows), int(records)


class RarityHistogram:
    """How rare a statistic is in its own history: minus the decimal logarithm of its tail probability.

    The history is a histogram over the logarithm, in steps of 10 %, around the first size seen.
    """

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

    def read(self, source: Iterator[float]) -> None:
        self._anchor, rows, top, bottom = take(source, 4)
        self._rows, self._top, self._bottom = int(rows), int(top), int(bottom)
        self._counts[self._bottom : self._top + 1] = take(source, self._top + 1 - self._bottom)


class HourlyProfile:
    """A mean for each hour of a day or a week, the recent weighing more."""

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

    def read(self, source: Iterator[float]) -> None:
        hours = len(self._means)
        self._means, self._counts = take(source, hours), take(source, hours)


class WindowMean:
    """The mean of the last so many values."""

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

    def read(self, source: Iterator[float]) -> None:
        filled, place, self._sum = take(source, 3)
        self._place, self._values = int(place), take(source, int(filled))


class MovingMean:
    """A moving mean of about 50 rows, and the largest distance from it, in its own fluctuations."""

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

    def read(self, source: Iterator[float]) -> None:
        self._mean, self._variance, self._largest, rows = take(source, 4)
        self._rows = int(rows)


class RunningHour:
    """The hour that is running: its number since the start, and its values so far."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, number: int) -> None:
        self.number, self.total, self.count = number, 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    def numbers(self) -> Iterable[float]:
        return self.number, self.total, self.count

    def read(self, source: Iterator[float]) -> None:
        number, self.total, count = take(source, 3)
        self.number, self.count = int(number), int(count)


class RecentScores:
    """The scores of the last rows that none after them has passed: a new one must pass them all."""

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

    def read(self, source: Iterator[float]) -> None:
        (length,) = take(source, 1)
        pairs = take(source, 2 * int(length))
        self._highest.extend((int(row), score) for row, score in zip(pairs[::2], pairs[1::2], strict=True))
