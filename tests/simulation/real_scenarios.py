"""Short scenarios that run in the simulated world and on a real engine: drawn by the simulation's own generator.

Each step ends before the next one begins, and takes seconds: programs start at once, and their checks are quick.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from flows.deployment.restart import restart
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.update import update
from flows.storage.rehearse import rehearse
from flows.storage.restore import restore
from flows.storage.snapshot import snapshot
from tests.simulation.actions import SERVICES, Action, Kind, draw_actions
from tests.simulation.containers import OUTCOMES, Outcome, Version
from tests.simulation.data_actors import draw_data_actions
from tests.simulation.data_world import SHOP_WITH_DATA
from tests.simulation.world import NAME, SHOP, Shape, plain

DRAWN = 60
_WITH_DATA_FROM = 48
"""The last drawn scenarios are of an application whose data is saved."""
_FIRST_SEED = 5_000
_FEWEST, _MOST = 3, 6
_BAD_FROM_THE_START = 0.25
_HOURS = 4.0

QUICK_CHECK = {
    "test": ["CMD", "test", "-e", "/tmp/well"],
    "interval": "1s",
    "timeout": "30s",
    "retries": 3,
    "start_period": "6s",
    "start_interval": "200ms",
}
_ENVIRONMENT: dict[str, Any] = {
    "stabilisation_seconds": 2,
    "start_timeout_seconds": 120,
    "notify": [],
    "recovery": {"verify_timeout_seconds": 20},
}
"""What the environment's file has in place of what the simulation's has."""
_DATA = {
    "save": [
        {"kind": "files", "volume": "web-data"},
        {"kind": "sqlite", "service": "jobs", "file": "/data/state.db"},
    ],
    "timeout_seconds": 120,
}


class Doing(StrEnum):
    """What a step does."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    UPDATE = "update"
    ROLLBACK = "rollback"
    STOP_BY_HAND = "stop by hand"
    START_BY_HAND = "start by hand"
    KILL_BY_HAND = "kill by hand"
    PAUSE_BY_HAND = "pause by hand"
    UNPAUSE_BY_HAND = "unpause by hand"
    CRASH = "crash"
    UNHEALTHY = "become unhealthy"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    REHEARSE = "rehearse"
    ROLLBACK_WITH_DATA = "rollback with data"


COMMANDS: dict[Doing, Callable[[], Awaitable[Any]]] = {
    Doing.START: lambda: plain(startup)(NAME, asked_by="ann"),
    Doing.STOP: lambda: plain(stop)(NAME, asked_by="ann"),
    Doing.RESTART: lambda: plain(restart)(NAME, asked_by="ann"),
    Doing.UPDATE: lambda: plain(update)(NAME, asked_by="ann", now=True),
    Doing.ROLLBACK: lambda: plain(rollback)(NAME, asked_by="ann"),
    Doing.ROLLBACK_WITH_DATA: lambda: plain(rollback)(NAME, asked_by="ann", with_data=True),
    Doing.SNAPSHOT: lambda: plain(snapshot)(NAME, asked_by="ann"),
    Doing.RESTORE: lambda: plain(restore)(NAME, asked_by="ann", confirmed=True),
    Doing.REHEARSE: lambda: plain(rehearse)(NAME, asked_by="ann"),
}
"""The flows as plain functions, as a command without a Prefect server calls them. All else happens to one container,
while the agent watches."""

_DOING = {
    Kind.START: Doing.START,
    Kind.STOP: Doing.STOP,
    # Nothing is interrupted here that a person could resume.
    Kind.RESUME: Doing.RESTART,
    Kind.UPDATE: Doing.UPDATE,
    Kind.ROLLBACK: Doing.ROLLBACK,
    Kind.STOP_BY_HAND: Doing.STOP_BY_HAND,
    Kind.START_BY_HAND: Doing.START_BY_HAND,
    Kind.KILL_BY_HAND: Doing.KILL_BY_HAND,
    Kind.PAUSE_CONTAINER: Doing.PAUSE_BY_HAND,
    Kind.UNPAUSE_CONTAINER: Doing.UNPAUSE_BY_HAND,
    Kind.CRASH: Doing.CRASH,
    Kind.UNHEALTHY: Doing.UNHEALTHY,
    Kind.SNAPSHOT: Doing.SNAPSHOT,
    Kind.RESTORE: Doing.RESTORE,
    Kind.REHEARSE: Doing.REHEARSE,
    Kind.ROLLBACK_WITH_DATA: Doing.ROLLBACK_WITH_DATA,
}
"""The kinds of events that both worlds can have; the others are left out of what is drawn."""


@dataclass(frozen=True, slots=True)
class RealStep:
    """One step; `version` is published before it."""

    doing: Doing
    service: str = ""
    version: Version | None = None

    def __str__(self) -> str:
        version = self.version
        about = f" {self.service}" if self.service else ""
        return f"{self.doing}{about}" + (f" {version.service} to one that {version.outcome}" if version else "")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The first versions of all services, and what happens then."""

    number: int
    first: tuple[Version, ...]
    steps: tuple[RealStep, ...]

    @property
    def has_data(self) -> bool:
        """Whether the application's data is saved."""
        return _has_data(self.number)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What its services are like."""
        shapes = SHOP_WITH_DATA if self.has_data else SHOP
        return tuple(replace(shape, check=QUICK_CHECK if shape.check is not None else None) for shape in shapes)

    @property
    def environment(self) -> dict[str, Any]:
        """What the environment's file has of its own."""
        return _ENVIRONMENT | ({"data": _DATA} if self.has_data else {})

    @property
    def versions(self) -> list[Version]:
        """All that are published."""
        return [*self.first, *(step.version for step in self.steps if step.version is not None)]


_WRITTEN: tuple[tuple[RealStep, ...], ...] = (
    (
        RealStep(Doing.START),
        RealStep(Doing.PAUSE_BY_HAND, "web"),
        RealStep(Doing.STOP),
        RealStep(Doing.START),
        RealStep(Doing.PAUSE_BY_HAND, "jobs"),
        RealStep(Doing.STOP),
    ),
)
"""Scenarios that the generator does not draw: a stop that meets a paused container, with a health check and without."""
SCENARIOS = DRAWN + len(_WRITTEN)


def scenario_of(number: int) -> Scenario:
    """The scenario of a number: a drawn one, or after these one that is written."""
    if number < DRAWN:
        return _draw(number)
    return Scenario(number, tuple(_version(name, 1, Outcome.SERVES) for name in SERVICES), _WRITTEN[number - DRAWN])


def _has_data(number: int) -> bool:
    return _WITH_DATA_FROM <= number < DRAWN


def _draw(number: int) -> Scenario:
    """The first events of a seed that both worlds can have."""
    seed = _FIRST_SEED + number
    choices = random.Random(f"scenario {number}")
    numbers = dict.fromkeys(SERVICES, 1)
    is_bad, bad = choices.random() < _BAD_FROM_THE_START, choices.choice(SERVICES)
    outcomes = dict.fromkeys(SERVICES, Outcome.SERVES)
    if is_bad and not _has_data(number):
        outcomes[bad] = choices.choice(OUTCOMES)
    first = tuple(_version(name, 1, outcome) for name, outcome in outcomes.items())
    drawn = (draw_data_actions if _has_data(number) else draw_actions)(seed, _HOURS)
    playable = [action for action in drawn if action.kind in _DOING]
    steps = [_step(action, numbers) for action in playable[: choices.randint(_FEWEST, _MOST)]]
    return Scenario(number, first, tuple(steps))


def _step(action: Action, numbers: dict[str, int]) -> RealStep:
    doing = _DOING[action.kind]
    if doing is Doing.UPDATE and action.share < 0.8:
        numbers[action.service] += 1
        outcome = OUTCOMES[action.number % len(OUTCOMES)]
        return RealStep(doing, version=_version(action.service, numbers[action.service], outcome))
    return RealStep(doing, "" if doing in COMMANDS else action.service)


def _version(service: str, number: int, outcome: Outcome) -> Version:
    return Version(service=service, number=number, outcome=outcome, starts_in=0.5, crashes_after=1.0)
