"""What people and faults do with data: snapshots, restores, rollbacks with data, migrations; and all that is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from flows.storage.rehearse import rehearse
from flows.storage.snapshot import snapshot
from models.snapshots import SnapshotState
from tasks.runtime.stores import open_stores
from tests.simulation.actions import BURST, CYCLE, FIRST_BURST, SERVICES, Action, Kind
from tests.simulation.containers import Outcome, Version
from tests.simulation.data_ledger import DataLedger
from tests.simulation.data_world import WRITERS, declare_data
from tests.simulation.ledger import Ledger
from tests.simulation.world import NAME, World, plain, reference_of

_OUTCOMES = (Outcome.SERVES, Outcome.CRASHES, Outcome.SERVES, Outcome.UNHEALTHY)
_BLIND, _KILLED, _REPUBLISHED = 0.5, 0.6, 700


class DataActors:
    """Who acts on data, once an environment names it."""

    def __init__(self, world: World, ledger: Ledger, actors: Any, share: float) -> None:
        self._world, self._ledger, self._actors = world, ledger, actors
        settings = declare_data(world, random.Random(f"data {world.seed}"))
        self.ledger = DataLedger(world, ledger, settings)
        self._schema = 1
        for service in WRITERS:
            world.publish(Version(service=service, number=1, is_blind=share < _BLIND))

    async def do(self, action: Action) -> None:
        """Let one event happen."""
        await _DO[action.kind](self, action)

    async def _snapshot(self, _: Action) -> None:
        await self._actors.run_beside("snapshot", lambda: plain(snapshot)(NAME, asked_by="ann"))

    async def _rehearse(self, _: Action) -> None:
        await self._actors.run_beside("rehearse", lambda: plain(rehearse)(NAME, asked_by="ann"))

    async def _restore(self, action: Action) -> None:
        snapshots = await self._actors.ask(lambda: open_stores().snapshots.list_for(NAME))
        whole = [taken.snapshot_id for taken in snapshots if taken.state is SnapshotState.WHOLE]
        chosen = whole[action.number % len(whole)] if whole and action.number % 3 else None
        await self._actors.operate("restore", snapshot=chosen)

    async def _rollback(self, _: Action) -> None:
        await self._actors.operate("rollback with data")

    async def _migrate(self, action: Action) -> None:
        self._schema += 1
        outcome = _OUTCOMES[action.number % len(_OUTCOMES)]
        for service in WRITERS:
            self._world.publish(
                Version(
                    service=service,
                    number=self._actors.next_number(service),
                    outcome=outcome if service == "web" else Outcome.SERVES,
                    schema=self._schema,
                    is_blind=action.share < _BLIND,
                )
            )
        self._actors.schema = self._schema
        await self._actors.operate("update", now=True)

    async def _end_at_load(self, action: Action) -> None:
        """At one of the next loads, kill what runs or press Ctrl-C."""
        remaining = [1 + action.number % 5]

        def note_load() -> None:
            remaining[0] -= 1
            if not remaining[0]:
                self.ledger.on_load = lambda: None
                how = self._actors.kill_now if action.share < _KILLED else self._actors.interrupt_now
                self._world.engine.later(0.0, how)

        self.ledger.on_load = note_load

    async def _trouble(self, action: Action) -> None:
        repository, programs = self._world.repository, self._world.snapshot_programs
        seconds = 3.0 + action.number
        if action.kind is Kind.REPOSITORY_AWAY:
            repository.is_away = True
            end: Callable[[], None] = lambda: setattr(repository, "is_away", False)  # noqa: E731
        elif action.kind is Kind.DISK_FULL:
            repository.is_full = True
            end = lambda: setattr(repository, "is_full", False)  # noqa: E731
        else:
            programs.fails, programs.hangs = 0.3 * action.share, 0.05 * action.share

            def end() -> None:
                programs.fails = programs.hangs = 0.0

        self._actors.beside(self._actors.after(seconds, end))

    async def check_calm(self, *, mends: bool) -> None:
        """Compare what data there are, and restore what was left half put back, as the message says."""
        if mends:
            self.ledger.on_load = lambda: None
        marked = await self.ledger.check_calm(self._actors)
        if marked is not None and mends:
            run = await self._actors.operate("restore", snapshot=marked.snapshot_id)
            await run.ended.wait()
        for service in WRITERS if mends else ():
            version = self._world.engine.registry[reference_of(service)]
            if version.image_id in self._ledger.images.refused:
                # One that failed beside another is good, and held back as well.
                self._world.publish(replace(version, number=version.number + _REPUBLISHED, outcome=Outcome.SERVES))


_DO: dict[Kind, Callable[[DataActors, Action], Coroutine[Any, Any, None]]] = {
    Kind.SNAPSHOT: DataActors._snapshot,
    Kind.REHEARSE: DataActors._rehearse,
    Kind.RESTORE: DataActors._restore,
    Kind.ROLLBACK_WITH_DATA: DataActors._rollback,
    Kind.MIGRATE: DataActors._migrate,
    Kind.END_AT_LOAD: DataActors._end_at_load,
    Kind.REPOSITORY_AWAY: DataActors._trouble,
    Kind.DISK_FULL: DataActors._trouble,
    Kind.PROGRAMS_FAIL: DataActors._trouble,
}

DATA_KINDS = frozenset(_DO)
_WEIGHTS: dict[Kind, int] = {
    Kind.SNAPSHOT: 10,
    Kind.RESTORE: 16,
    Kind.REHEARSE: 3,
    Kind.ROLLBACK_WITH_DATA: 12,
    Kind.MIGRATE: 14,
    Kind.UPDATE: 6,
    Kind.ROLLBACK: 6,
    Kind.START: 4,
    Kind.STOP: 2,
    Kind.START_BY_HAND: 3,
    Kind.STOP_BY_HAND: 2,
    Kind.CRASH: 4,
    Kind.KILL_AGENT: 3,
    Kind.ENGINE_AWAY: 2,
    Kind.ENGINE_RESTARTS: 2,
    Kind.BAD_WEATHER: 2,
    Kind.REPOSITORY_AWAY: 3,
    Kind.DISK_FULL: 2,
    Kind.PROGRAMS_FAIL: 3,
}
_DISTURBING = (
    *[Kind.KILL_OPERATION] * 3,
    *[Kind.END_AT_LOAD] * 4,
    Kind.INTERRUPT,
    Kind.START_BY_HAND,
    Kind.ENGINE_RESTARTS,
    Kind.REPOSITORY_AWAY,
    Kind.DISK_FULL,
    Kind.PROGRAMS_FAIL,
)
_FOLLOWING: dict[Kind, tuple[Kind, ...]] = {
    **dict.fromkeys((Kind.RESTORE, Kind.ROLLBACK_WITH_DATA, Kind.MIGRATE, Kind.SNAPSHOT), _DISTURBING),
    Kind.KILL_OPERATION: (
        *[Kind.RESUME] * 5,
        Kind.SNAPSHOT,
        Kind.RESTORE,
        Kind.START_BY_HAND,
        Kind.START,
    ),
    Kind.END_AT_LOAD: (*[Kind.RESUME] * 4, Kind.SNAPSHOT, Kind.RESTORE, Kind.START_BY_HAND, Kind.START),
    Kind.RESUME: (Kind.KILL_OPERATION, Kind.END_AT_LOAD, Kind.INTERRUPT, Kind.REPOSITORY_AWAY),
}
"""What may come a moment after what; a chain of them goes on while chance has it."""
_FOLLOWS = 0.7


def draw_data_actions(seed: int, hours: float) -> list[Action]:
    """All that happens in so many hours to an application whose data is saved."""
    choices = random.Random(f"data actions {seed}")
    actions = [
        Action(0.5, Kind.DECLARE_DATA, share=choices.random()),
        Action(1.0, Kind.START),
        Action(60.0, Kind.SNAPSHOT),
    ]
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())

    def draw(at: float, kind: Kind) -> Action:
        return Action(at, kind, choices.choice(SERVICES), choices.randint(0, 60), choices.random())

    for cycle in range(max(1, int(hours * 3600 / CYCLE))):
        begin = FIRST_BURST + cycle * CYCLE
        for at in sorted(choices.uniform(0, BURST) for _ in range(choices.randint(2, 5))):
            actions.append(draw(begin + at, choices.choices(kinds, weights)[0]))
            while (follow := _FOLLOWING.get(actions[-1].kind)) is not None and choices.random() < _FOLLOWS:
                after = choices.choice((choices.uniform(0.0, 20.0), choices.uniform(20.0, 90.0)))
                actions.append(draw(actions[-1].at + after, choices.choice(follow)))
        actions.append(Action(begin + CYCLE - FIRST_BURST, Kind.CALM))
    return sorted(actions, key=lambda action: action.at)
