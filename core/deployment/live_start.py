"""State of a start while it runs: what each service does or waits for, and the critical path so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from core.deployment.hold import NeededHold
from core.deployment.plan import critical_path
from models.compose import DependencyCondition, ServiceDeclaration
from models.health import ServiceHealth
from models.results import ServiceStart

MILESTONES = {
    DependencyCondition.STARTED: "started",
    DependencyCondition.HEALTHY: "healthy",
    DependencyCondition.COMPLETED: "completed",
}
"""The states that a dependant may wait for, each as it reads in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """One service for a display. The seconds count its wait, else its own work."""

    service: str
    state: str
    seconds: float
    detail: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveHold:
    """Until when a service that serves has to stay so, and why so long."""

    until: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStart:
    """A start while it runs. Moments are seconds since it began; `began` is that moment of the monotonic clock.

    `begun_at` is when a service's own work began, and `over_at` when the start ended.
    """

    environment: str
    services: Mapping[str, ServiceDeclaration]
    began: float
    begun_at: Mapping[str, float] = field(default_factory=dict)
    held_up_by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reached: frozenset[tuple[str, DependencyCondition]] = frozenset()
    held: Mapping[str, LiveHold] = field(default_factory=dict)
    results: Mapping[str, ServiceStart] = field(default_factory=dict)
    over_at: float | None = None

    def begin(self, service: str, at: float, waits: Mapping[str, float]) -> LiveStart:
        """A service has waited so many seconds for each dependency and is brought up now."""
        return replace(
            self, begun_at={**self.begun_at, service: at}, held_up_by={**self.held_up_by, service: dict(waits)}
        )

    def reach(self, service: str, milestone: DependencyCondition) -> LiveStart:
        """A service has reached what its dependants may wait for."""
        return replace(self, reached=self.reached | {(service, milestone)})

    def hold(self, service: str, at: float, hold: NeededHold | None) -> LiveStart:
        """A service serves, and has to stay so from then on; None where it does not any more."""
        others = {name: held for name, held in self.held.items() if name != service}
        if hold is None:
            return replace(self, held=others)
        until = at + hold.needed.total_seconds()
        return replace(self, held={**others, service: LiveHold(until=until, why=hold.why)})

    def end(self, result: ServiceStart) -> LiveStart:
        """A service is proven, or has failed."""
        return replace(self, results={**self.results, result.service: result})

    def seconds_at(self, moment: float) -> float:
        """The seconds of the start at a moment of the monotonic clock; it stands still once the start is over."""
        return moment - self.began if self.over_at is None else self.over_at


def headline(start: LiveStart, now: float) -> str:
    """Summarise how far the start is, `now` seconds after it began."""
    failed = sum(not result.ok for result in start.results.values())
    proven = sum(result.ok and result.state != ServiceHealth.UNPROVEN for result in start.results.values())
    serving = len(start.held.keys() - start.results.keys())
    return (
        f"{start.environment}: {proven} of {len(start.services)} services proven"
        f"{f', {serving} more serving' if serving else ''}{f', {failed} failed' if failed else ''}, {now:.1f} s"
    )


def path_so_far(start: LiveStart, now: float) -> str:
    """Name the chain of services that takes longest so far, with the seconds of each."""
    ready = {
        name: start.begun_at[name] + start.results[name].took_seconds if name in start.results else now
        for name in start.begun_at
    }
    links = critical_path(
        {name: timedelta(seconds=at) for name, at in ready.items()},
        {
            name: {other: timedelta(seconds=spent) for other, spent in waits.items()}
            for name, waits in start.held_up_by.items()
        },
    )
    return " > ".join(f"{link.service} {link.took.total_seconds():.1f} s" for link in links)


def live_rows(start: LiveStart, now: float) -> tuple[LiveRow, ...]:
    """Return a row for each service, in the order of the declaration."""
    return tuple(_row(start, declaration, now) for declaration in start.services.values())


def rows_that_fit(rows: Sequence[LiveRow], most: int) -> tuple[tuple[LiveRow, ...], int]:
    """Return at most so many rows, those that go on before those that ended, and the number of the others."""
    if len(rows) <= most:
        return tuple(rows), 0
    chosen = sorted(range(len(rows)), key=lambda number: (rows[number].ended, number))[: max(most, 0)]
    return tuple(rows[number] for number in sorted(chosen)), len(rows) - len(chosen)


def _row(start: LiveStart, declaration: ServiceDeclaration, now: float) -> LiveRow:
    name = declaration.name
    result, begun = start.results.get(name), start.begun_at.get(name)
    if result is not None:
        spent = result.took_seconds if begun is not None else result.waited_seconds
        state = "kept" if result.kept else result.state
        detail = result.reason.removeprefix(f"{name}: ")
        return LiveRow(service=name, state=state, seconds=spent, detail=detail, ended=True)
    if begun is None:
        return LiveRow(service=name, state="waiting", seconds=now, detail=_describe_wait(start, declaration))
    if (held := start.held.get(name)) is not None:
        state, detail = "serves", f"{max(0.0, held.until - now):.0f} s more: {held.why}"
    elif (name, DependencyCondition.STARTED) not in start.reached:
        state, detail = "starting", ""
    elif declaration.checked:
        state, detail = "started", "its health check has not passed yet"
    elif declaration.awaited:
        state, detail = "started", "it has not finished yet"
    else:
        state, detail = "started", ""
    return LiveRow(service=name, state=state, seconds=now - begun, detail=detail)


def _describe_wait(start: LiveStart, declaration: ServiceDeclaration) -> str:
    awaited = [
        f"{name} ({MILESTONES[needed.condition]})"
        for name, needed in declaration.depends_on.items()
        if name in start.services and name not in start.results and (name, needed.condition) not in start.reached
    ]
    return f"for {', '.join(awaited)}" if awaited else ""
