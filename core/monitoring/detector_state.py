"""Parts of the state of a detector."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Protocol

_QUIET_ROWS = 75
_FORGET_ROWS = 1000
"""After so many rows a row counts half in what is usual."""

_KEPT = 0.5 ** (1 / _FORGET_ROWS)
_SPAN = 5
_FADES = tuple(2 / (span + 1) for span in (_SPAN, 4 * _SPAN, 20 * _SPAN))


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
    """The range of everything seen, growing by at most its own width a row: one absurd value is not enough."""

    def __init__(self) -> None:
        self.low, self.high = math.nan, math.nan
        self.before = (math.nan, math.nan)

    @property
    def width(self) -> float:
        return 0.0 if math.isnan(self.low) else self.high - self.low

    def outside(self, value: float) -> float:
        """How far outside, in the metric's unit; the value is known afterwards."""
        if math.isnan(self.low):
            self.low = self.high = value
        self.before = (self.low, self.high)
        width = self.high - self.low
        distance = max(value - self.high, self.low - value, 0.0)
        step = min(distance, width) if width > 1e-9 * max(abs(self.low), abs(self.high)) else distance
        if value > self.high:
            self.high += step
        elif distance:
            self.low -= step
        return distance

    def numbers(self) -> Iterable[float]:
        return self.low, self.high

    def read(self, source: Iterator[float]) -> None:
        self.low, self.high = take(source, 2)


class UsualSize:
    """The usual size of a quantity around zero: its root mean square, which forgets."""

    def __init__(self) -> None:
        self._squares, self._weight = 0.0, 0.0

    @property
    def value(self) -> float:
        return math.sqrt(self._squares / self._weight) if self._weight else 0.0

    def compare(self, size: float, least: float) -> float:
        """How many usual sizes, each at least `least`, a size is; the size is known afterwards."""
        compared = abs(size) / max(self.value, least)
        self.learn(size)
        return compared

    def learn(self, size: float) -> None:
        self._squares = _KEPT * self._squares + size * size
        self._weight = _KEPT * self._weight + 1

    def numbers(self) -> Iterable[float]:
        return self._squares, self._weight

    def read(self, source: Iterator[float]) -> None:
        self._squares, self._weight = take(source, 2)


class ForgettingMean:
    """A mean that forgets as fast as the usual sizes do."""

    def __init__(self) -> None:
        self.value, self._weight = 0.0, 0.0

    def learn(self, value: float) -> None:
        self._weight = _KEPT * self._weight + 1
        self.value += (value - self.value) / self._weight

    def numbers(self) -> Iterable[float]:
        return self.value, self._weight

    def read(self, source: Iterator[float]) -> None:
        self.value, self._weight = take(source, 2)


class Forecasts:
    """Five forecasts of the next value: the last one, three moving means, and the mean of the hour on earlier days.

    The one with the least error over about the last 100 rows counts.
    """

    def __init__(self) -> None:
        self._last = math.nan
        self._means = [math.nan] * len(_FADES)
        self._errors = [0.0] * (len(_FADES) + 2)

    def error(self, value: float, same_hour: float) -> float:
        """How far the value is from the best forecast; the value is known afterwards.

        `same_hour` is the mean of the hour on earlier days, NaN while there is none.
        """
        if math.isnan(self._last):
            self._last, self._means = value, [value] * len(_FADES)
        means, errors = self._means, self._errors
        slow = means[-1]
        away = [value - self._last, *(value - mean for mean in means)]
        away.append(value - (slow if math.isnan(same_hour) else same_hour))
        error = away[errors.index(min(errors))]
        fade = _FADES[-1]
        self._errors = [old + (abs(new) - old) * fade for old, new in zip(errors, away, strict=True)]
        self._means = [mean + (value - mean) * fade for mean, fade in zip(means, _FADES, strict=True)]
        self._last = value
        return error

    def numbers(self) -> Iterable[float]:
        return self._last, *self._means, *self._errors

    def read(self, source: Iterator[float]) -> None:
        (self._last,) = take(source, 1)
        self._means, self._errors = take(source, len(self._means)), take(source, len(self._errors))


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
    """A mean for each hour of a day, the recent weighing more."""

    def __init__(self) -> None:
        self._means, self._counts = [0.0] * 24, [0.0] * 24

    def usual(self, hour: int, otherwise: float) -> float:
        place = hour % len(self._means)
        return self._means[place] if self._counts[place] else otherwise

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
