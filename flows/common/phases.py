"""Measure the phases of one command, for `--timing`; without it nothing is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from core.reporting.timing import Phase, Timing
from flows.common.terminal import command_began


@dataclass(slots=True)
class PhaseClock:
    """Sums the seconds of each phase; one phase at a time goes on. Moments are of the monotonic clock."""

    began: float = field(default_factory=command_began)
    _current: Phase | None = Phase.ENTRY
    _since: float = 0.0
    _seconds: dict[Phase, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since = self.began

    def switch(self, phase: Phase | None) -> Phase | None:
        """End the current phase, begin another one or none, and return the one that ended."""
        now, before = time.monotonic(), self._current
        if before is not None:
            self._seconds[before] = self._seconds.get(before, 0.0) + now - self._since
        self._current, self._since = phase, now
        return before

    def timing(self) -> Timing:
        """The phases so far, and the time since the command began."""
        self.switch(self._current)
        return Timing(
            phases={phase: self._seconds[phase] for phase in Phase if phase in self._seconds}, wall=self._wall_seconds()
        )

    def _wall_seconds(self) -> float:
        return time.monotonic() - self.began


_clock: ContextVar[PhaseClock | None] = ContextVar("phase_clock", default=None)


def measure_phases() -> PhaseClock:
    """Measure from now on the flow that this context runs; the phase that goes on is the entry."""
    clock = PhaseClock()
    _clock.set(clock)
    return clock


def begin_phase(phase: Phase | None) -> None:
    """End the phase that goes on, and begin another one or none."""
    if (clock := _clock.get()) is not None:
        clock.switch(phase)


@contextmanager
def time_phase(phase: Phase) -> Iterator[None]:
    """Count the time of the body as a phase; the one before goes on afterwards."""
    clock = _clock.get()
    before = clock.switch(phase) if clock is not None else None
    try:
        yield
    finally:
        if clock is not None:
            clock.switch(before)
