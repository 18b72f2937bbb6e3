"""What happens in a simulation: drawn from the seed in advance, so that a part of it can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

CYCLE = 1800.0
"""A burst of events, then calm: s."""
BURST = 480.0
FIRST_BURST = 180.0
SERVICES = ("db", "web", "jobs")
_LONG_EACH, LONG_FACTOR = 4, 24
"""Each fourth seed is a long run: so many times the hours, with few events, as an operator's weeks have them."""
_BETWEEN_EVENTS = 4 * 3600.0
_DAY, _CLEANED_AT, _REPORTED_AT = 86_400.0, 70_320.0, 77_520.0
"""In seconds since the beginning, at eight o'clock: the schedules of each night and morning."""


class Kind(StrEnum):
    """What happens."""

    START = "a person starts"
    STOP = "a person stops"
    UPDATE = "a person updates"
    ROLLBACK = "a person rolls back"
    RESUME = "a person resumes what was interrupted"
    INTERRUPT = "a person presses Ctrl-C"
    STOP_BY_HAND = "a person stops a container by hand"
    START_BY_HAND = "a person starts a container by hand"
    KILL_BY_HAND = "a person kills a container by hand"
    RUN_BESIDE = "a person runs commands in containers of their own"
    PAUSE_CONTAINER = "a person pauses a container"
    UNPAUSE_CONTAINER = "a person unpauses a container"
    PAUSE_RECOVERY = "a person pauses recovery"
    MAINTENANCE = "a person plans maintenance"
    ANSWER = "a person answers a ticket"
    LIFT = "a person lets updates take an image again"
    ELSEWHERE = "another host takes the environment for a while"
    CRASH = "a program crashes"
    CRASH_LOOP = "a program crashes after each start"
    OUT_OF_MEMORY = "a program runs out of memory"
    UNHEALTHY = "a program becomes unhealthy"
    KILL_AGENT = "the agent is killed"
    KILL_OPERATION = "the operation is killed"
    LOSE_EVENTS = "the connections for events break"
    ENGINE_AWAY = "the engine is away"
    ENGINE_RESTARTS = "the engine restarts"
    BAD_WEATHER = "calls of the engine fail"
    CLEAN = "the stores are cleaned by night"
    REPORT = "the report of the day is made"
    STORES_AWAY = "the stores are away"
    STORES_FULL = "the disk of the stores is full"
    SECOND_AGENT = "a second agent is begun"
    CALM = "calm"
    DECLARE_DATA = "the environment names its data"
    SNAPSHOT = "a person takes a snapshot"
    RESTORE = "a person restores a snapshot"
    REHEARSE = "a person rehearses a restore"
    ROLLBACK_WITH_DATA = "a person rolls back with data"
    MIGRATE = "a person updates to a version that migrates"
    END_AT_LOAD = "the operation is killed or interrupted as a part is put back"
    REPOSITORY_AWAY = "the repository is away"
    DISK_FULL = "the repository's disk is full"
    PROGRAMS_FAIL = "programs that move data fail"


_WEIGHTS = {
    Kind.START: 6,
    Kind.STOP: 4,
    Kind.UPDATE: 14,
    Kind.ROLLBACK: 4,
    Kind.RESUME: 4,
    Kind.INTERRUPT: 4,
    Kind.STOP_BY_HAND: 7,
    Kind.START_BY_HAND: 2,
    Kind.KILL_BY_HAND: 3,
    Kind.RUN_BESIDE: 4,
    Kind.PAUSE_CONTAINER: 2,
    Kind.UNPAUSE_CONTAINER: 2,
    Kind.PAUSE_RECOVERY: 6,
    Kind.MAINTENANCE: 2,
    Kind.ANSWER: 4,
    Kind.LIFT: 1,
    Kind.ELSEWHERE: 1,
    Kind.CRASH: 12,
    Kind.CRASH_LOOP: 3,
    Kind.OUT_OF_MEMORY: 3,
    Kind.UNHEALTHY: 6,
    Kind.KILL_AGENT: 8,
    Kind.KILL_OPERATION: 10,
    Kind.LOSE_EVENTS: 3,
    Kind.ENGINE_AWAY: 3,
    Kind.ENGINE_RESTARTS: 2,
    Kind.BAD_WEATHER: 3,
    Kind.STORES_AWAY: 2,
    Kind.STORES_FULL: 2,
    Kind.SECOND_AGENT: 1,
}


_DISTURBING = (Kind.KILL_OPERATION, Kind.KILL_OPERATION, Kind.INTERRUPT, Kind.CRASH, Kind.KILL_AGENT, Kind.STOP_BY_HAND)
_FOLLOWING = {
    **dict.fromkeys((Kind.START, Kind.ROLLBACK), (*_DISTURBING, Kind.RUN_BESIDE)),
    Kind.UPDATE: (*_DISTURBING, *[Kind.UPDATE] * 5),
    Kind.STOP: (*_DISTURBING, Kind.KILL_AGENT, Kind.UPDATE, Kind.START),
    Kind.STOP_BY_HAND: (Kind.KILL_AGENT, Kind.ENGINE_RESTARTS, Kind.ENGINE_AWAY),
    Kind.ENGINE_RESTARTS: (Kind.KILL_AGENT,),
    Kind.ENGINE_AWAY: (Kind.START_BY_HAND, Kind.CRASH),
    Kind.START_BY_HAND: (Kind.CRASH,),
    Kind.RUN_BESIDE: (Kind.CRASH, Kind.START),
    Kind.PAUSE_RECOVERY: (Kind.CRASH, Kind.OUT_OF_MEMORY, Kind.UNHEALTHY),
    Kind.MAINTENANCE: (Kind.CRASH, Kind.OUT_OF_MEMORY, Kind.UNHEALTHY),
    Kind.ELSEWHERE: (Kind.CRASH, Kind.START),
    Kind.CRASH: (Kind.KILL_AGENT, Kind.CRASH, Kind.STOP_BY_HAND),
    Kind.CRASH_LOOP: (Kind.ANSWER, Kind.KILL_AGENT, Kind.CRASH),
    Kind.PAUSE_CONTAINER: (Kind.UPDATE, Kind.ROLLBACK, Kind.CRASH),
    Kind.STORES_AWAY: (Kind.UPDATE, Kind.CRASH, Kind.KILL_AGENT),
    Kind.STORES_FULL: (Kind.UPDATE, Kind.CRASH, Kind.KILL_AGENT),
    Kind.KILL_OPERATION: (Kind.RESUME,),
}
"""What may come a moment after what, so that it meets what goes on; at most so many in a row."""
_FOLLOWS = 0.8
_LONGEST = 3


@dataclass(frozen=True, slots=True)
class Action:
    """One event at a moment, in seconds since the beginning. `number` and `share` are drawn for what it needs."""

    at: float
    kind: Kind
    service: str = ""
    number: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        about = f" {self.service}" if self.service else ""
        return f"{self.kind}{about} ({self.number}, {self.share:.2f})"


def draw_actions(seed: int, hours: float) -> list[Action]:
    """All that happens in so many hours: an application that is started, then bursts of events with calm between."""
    choices = random.Random(f"actions {seed}")
    if is_long(seed):
        return _draw_long(choices, hours * LONG_FACTOR * 3600)
    actions = [Action(1.0, Kind.START)]
    for cycle in range(max(1, int(hours * 3600 / CYCLE))):
        begin = FIRST_BURST + cycle * CYCLE
        for at in sorted(choices.uniform(0, BURST) for _ in range(choices.randint(1, 7))):
            actions += _draw_event(choices, begin + at)
        actions.append(Action(begin + CYCLE - FIRST_BURST, Kind.CALM))
    return sorted(actions, key=lambda action: action.at)


def is_long(seed: int) -> bool:
    """Whether a seed is of a long run."""
    return seed % _LONG_EACH == 0


def _draw_long(choices: random.Random, seconds: float) -> list[Action]:
    """Days with an event some times a day, each followed by half an hour of calm, and what is done each night."""
    actions, at = [Action(1.0, Kind.START)], FIRST_BURST
    while (at := at + choices.expovariate(1 / _BETWEEN_EVENTS)) < seconds - CYCLE:
        actions += [*_draw_event(choices, at), Action(at + CYCLE, Kind.CALM)]
        at += CYCLE
    for day in range(int(seconds // _DAY) + 1):
        nightly = ((_CLEANED_AT, Kind.CLEAN), (_REPORTED_AT, Kind.REPORT))
        actions += [Action(day * _DAY + moment, kind) for moment, kind in nightly if day * _DAY + moment < seconds]
    return sorted([*actions, Action(seconds, Kind.CALM)], key=lambda action: action.at)


def _draw_event(choices: random.Random, at: float) -> list[Action]:
    """An event, and often others in a row: each meets what the one before it began."""
    kind = choices.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    actions = [Action(at, kind, choices.choice(SERVICES), choices.randint(0, 60), choices.random())]
    while len(actions) <= _LONGEST and choices.random() < _FOLLOWS:
        last = actions[-1]
        if (following := _FOLLOWING.get(last.kind)) is None:
            break
        after = last.at + choices.choice((choices.uniform(0.0, 25.0), choices.uniform(60.0, 180.0)))
        service = last.service if choices.random() < _FOLLOWS else choices.choice(SERVICES)
        actions.append(Action(after, choices.choice(following), service, choices.randint(0, 60), choices.random()))
    return actions
