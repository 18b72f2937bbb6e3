"""Virtual time: a clock, and what stands for the modules `time` and `datetime` in our own modules."""

from __future__ import annotations

import time as real_time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from pydantic_core import core_schema

BEGIN = datetime(2026, 3, 2, 8, 0, 0, tzinfo=UTC)
"""When each simulation begins: a Monday, by the virtual clock."""


class Clock:
    """Seconds since the beginning of a simulation; they pass only where something waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """The moment by the virtual clock, in UTC."""
        return BEGIN + timedelta(seconds=self.seconds)


def datetime_by(clock: Clock) -> type[datetime]:
    """A class that stands for `datetime`: its `now` is the clock's, and what it makes are plain datetimes."""

    class _OfRealOnes(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, datetime)

    class VirtualDatetime(datetime, metaclass=_OfRealOnes):
        def __new__(cls, *arguments: Any, **named: Any) -> Any:
            return datetime(*arguments, **named)  # noqa: DTZ001 - the caller gives the zone

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return clock.now().astimezone(tz) if tz is not None else clock.now().replace(tzinfo=None)

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
            return core_schema.datetime_schema()

        @classmethod
        def utcnow(cls) -> Any:
            return clock.now().replace(tzinfo=None)

    return VirtualDatetime


class VirtualTime:
    """What stands for the module `time` in our modules."""

    def __init__(self, clock: Clock, sleep: Any) -> None:
        self._clock = clock
        self.sleep = sleep

    def monotonic(self) -> float:
        """Seconds since the machine began, which was 1000 s before the simulation."""
        return 1000.0 + self._clock.seconds

    perf_counter = process_time = monotonic

    def monotonic_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.monotonic() * 1e9)

    perf_counter_ns = monotonic_ns

    def time(self) -> float:
        """Seconds since 1970."""
        return self._clock.now().timestamp()

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return int(self.time() * 1e9)

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)
