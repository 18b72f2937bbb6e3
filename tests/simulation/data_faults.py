"""Deliberate faults of what handles data: each loses some, mixes two moments, or says nothing of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tests.simulation.actions import Action, Kind
from tests.simulation.fault import Fault, always_later
from tests.simulation.sentences import Sentence

_MIXES = frozenset({Sentence.ONE_MOMENT, Sentence.NOT_ON_HALF})
_LOSES = frozenset({Sentence.SNAPSHOT_KEPT})
_CRASHES, _SERVES = 1, 0
"""The number of an update whose version crashes, or serves."""
_BLIND, _NOT_BLIND = 0.2, 0.8
"""The share of a version that serves on data that it cannot read, or ends."""
_WITH_POSTGRESQL = 6
"""A seed with PostgreSQL, and a policy that keeps two snapshots."""


def _events(*events: tuple[float, Kind, str, int, float], first: float = _BLIND) -> tuple[Action, ...]:
    begin = (Action(0.5, Kind.DECLARE_DATA, share=first), Action(1.0, Kind.START), Action(40.0, Kind.SNAPSHOT))
    return (*begin, *(Action(*event) for event in events))


def _do(at: float, kind: Kind, number: int = 0, share: float = 0.0) -> Any:
    return (at, kind, "web", number, share)


async def _nothing(*_: Any, **__: Any) -> None:
    """It is forgotten."""


def _forgotten(_: Any) -> Any:
    return _nothing


def _no(value: Any) -> Callable[[Any], Any]:
    async def call(*_: Any, **__: Any) -> Any:
        return value

    return lambda _: call


def _puts_target_back_again(put_parts_back: Any) -> Any:
    from flows.storage.restoring import RETURNED
    from tasks.storage.restores import being_restored

    async def call(self: Any, recorder: Any, snapshot: Any, step: str) -> None:
        target = await being_restored(recorder.name) if step == RETURNED else None
        await put_parts_back(self, recorder, target or snapshot, step)

    return call


def _part_of_the_oldest(part_of_snapshot: Any) -> Any:
    from tasks.runtime.stores import open_stores

    def call(snapshot: Any, data: Any) -> Any:
        if data.kind != "files":
            return part_of_snapshot(snapshot, data)
        return part_of_snapshot(open_stores().snapshots.list_for(snapshot.environment)[-1], data)

    return call


def _ignores_open_restores(to_forget: Any) -> Any:
    from flows.storage import snapshot

    snapshot.refuse_half_restored = _nothing  # type: ignore[assignment]
    return lambda snapshots, *more: to_forget([replace(taken, restoring="") for taken in snapshots], *more)


def _all_of_ours(leftovers: Any) -> Any:
    def call(entries: Any, snapshots: Any, installation: str) -> list[str]:
        ids = leftovers(entries, snapshots, installation)
        return sorted(entry.restic_id for entry in entries if entry.installation == installation) if ids else ids

    return call


def _and_the_safety_snapshot(to_forget: Any) -> Any:
    from models.snapshots import SnapshotReason

    def call(snapshots: Any, *more: Any) -> Any:
        safety = [taken for taken in snapshots if taken.reason is SnapshotReason.SAFETY]
        return [*to_forget(snapshots, *more), *safety[:1]]

    return call


def _starts_meanwhile(steps: Any) -> Any:
    from flows.deployment.rollback import apply_release
    from flows.storage import restoring

    load_part: Any = restoring.load_part

    async def bring_back(rollback: Any) -> None:
        loads: list[str] = []

        async def start_and_load(project: Any, application: Any, data: Any, snapshot: Any) -> None:
            if len(loads) == 1:
                returned = await apply_release(rollback.recorder, rollback.target)
                rollback.released, rollback.starts, rollback.health = returned
            loads.append(data.name)
            await load_part(project, application, data, snapshot)

        restoring.load_part = start_and_load
        await rollback.data.put_back(rollback.recorder, rollback.snapshot)

    return tuple(replace(step, run=bring_back) if step.name == "bring the release back" else step for step in steps)


def _takes_up_as_new(_: Any) -> Any:
    async def call(self: Any, _: Any, application: Any) -> None:
        self.application = application

    return call


def _starts_first(back: Any) -> Any:
    from flows.operation.steps import Step
    from flows.storage.restore import start

    return tuple(
        step
        for original in back
        for step in ((Step("start", start), original) if original.name == "put data back" else (original,))
    )


def _without_saving_ahead(steps: Any) -> Any:
    return tuple(step for step in steps if step.name != "save ahead")


def _only_what_runs(place_of: Any) -> Any:
    from models.failures import SnapshotError

    async def call(*arguments: Any, **named: Any) -> Any:
        place = await place_of(*arguments, **named)
        if not place.is_running and named.get("running", True):
            raise SnapshotError("It does not run.")
        return place

    return call


def _the_original(_: Any) -> Any:
    @contextmanager
    def call(_: Any, original: Any, *__: Any) -> Any:
        yield original.reported["Id"]

    return call


def _goes_on_even_so(take_up: Any) -> Any:
    import flows.operation.recorder
    from models.failures import SnapshotError

    # What refuses any operation that another one overtook comes before.
    flows.operation.recorder.overtaking = always_later(None)(None)

    async def call(self: Any, recorder: Any, application: Any) -> None:
        try:
            await take_up(self, recorder, application)
        except SnapshotError:
            self.application = application

    return call


def _takes_all_for_put_back(put_parts_back: Any) -> Any:
    async def call(self: Any, recorder: Any, snapshot: Any, step: str) -> None:
        if not any(recorded.step == step for recorded in recorder.steps):
            await put_parts_back(self, recorder, snapshot, step)

    return call


def _leaves_mark(settle_own: Any) -> Any:
    async def call(self: Any, recorder: Any) -> None:
        if sys.exception() is None:
            await settle_own(self, recorder)

    return call


def _newest(choose_snapshot: Any) -> Any:
    def call(snapshots: Any, _: Any, name: str) -> Any:
        return choose_snapshot(snapshots, max(taken.snapshot_id for taken in snapshots), name)

    return call


_INTERRUPTED = _events(_do(119, Kind.END_AT_LOAD, share=1.0), _do(120, Kind.RESTORE), _do(400, Kind.CALM, share=1.0))
_KILLED = (_do(119, Kind.END_AT_LOAD), _do(120, Kind.RESTORE))
_KILLED_LATER = (_do(119, Kind.END_AT_LOAD, 1), _do(120, Kind.RESTORE))
"""Once a part is put back and on record."""

DATA_FAULTS = (
    Fault(
        "the undo of a restore puts the snapshot back again",
        "flows.storage.restoring#DataRestore:_put_parts_back",
        _puts_target_back_again,
        frozenset({Sentence.ROWS_KEPT, Sentence.ONE_MOMENT}),
        _INTERRUPTED,
    ),
    Fault(
        "one part is put back from another snapshot",
        "tasks.storage.snapshots:part_of_snapshot",
        _part_of_the_oldest,
        _MIXES | {Sentence.ROWS_KEPT},
        _events(_do(70, Kind.SNAPSHOT), _do(120, Kind.RESTORE), _do(300, Kind.CALM)),
        seed=2,
    ),
    Fault(
        "retention ignores a restore that is open",
        "core.storage.snapshots:to_forget",
        _ignores_open_restores,
        _LOSES,
        _events(*_KILLED, _do(200, Kind.SNAPSHOT), _do(230, Kind.SNAPSHOT), _do(400, Kind.CALM)),
        seed=_WITH_POSTGRESQL,
    ),
    Fault(
        "a snapshot is taken of data that are half put back",
        "tasks.storage.restores:refuse_half_restored",
        _forgotten,
        _MIXES,
        _events(*_KILLED, _do(200, Kind.SNAPSHOT), _do(400, Kind.CALM, share=1.0)),
        seed=_WITH_POSTGRESQL,
    ),
    Fault(
        "what cleans up after a failed snapshot takes its neighbour",
        "core.storage.snapshots:leftovers",
        _all_of_ours,
        _LOSES,
        _events(
            _do(70, Kind.SNAPSHOT),
            _do(72.5, Kind.KILL_OPERATION),
            _do(150, Kind.SNAPSHOT),
            _do(300, Kind.CALM),
        ),
        seed=2,
    ),
    Fault(
        "a restore forgets what it saved before",
        "core.storage.snapshots:to_forget",
        _and_the_safety_snapshot,
        _LOSES,
        _events(_do(120, Kind.RESTORE), _do(300, Kind.CALM)),
    ),
    Fault(
        "a rollback with data starts before the data are back",
        "flows.deployment.rollback:ROLLBACK",
        _starts_meanwhile,
        _MIXES,
        _events(_do(100, Kind.MIGRATE, _SERVES), _do(250, Kind.ROLLBACK_WITH_DATA), _do(500, Kind.CALM)),
        seed=_WITH_POSTGRESQL,
    ),
    Fault(
        "a resumed restore takes half restored data for those of before",
        "flows.storage.restoring#DataRestore:take_up",
        _takes_up_as_new,
        _MIXES,
        _events(*_KILLED, _do(199, Kind.END_AT_LOAD, share=1.0), _do(200, Kind.RESUME), _do(500, Kind.CALM, share=1.0)),
    ),
    Fault(
        "that a restore goes on is not on record",
        "tasks.storage.restores:begin_restore",
        _forgotten,
        _MIXES,
        _events(*_KILLED, _do(200, Kind.START), _do(400, Kind.CALM, share=1.0)),
    ),
    Fault(
        "a restore that goes back starts before the data are back",
        "flows.storage.restore:RESTORE_BACK",
        _starts_first,
        _MIXES,
        _INTERRUPTED,
    ),
    Fault(
        "the present data are saved while services write to them",
        "flows.storage.snapshot:SNAPSHOT",
        _without_saving_ahead,
        frozenset({Sentence.ROWS_KEPT}),
        _INTERRUPTED,
    ),
    Fault(
        "a rollback does not say that a later version used the data",
        "tasks.deployment.release:may_have_changed_data",
        _no(False),
        frozenset({Sentence.READABLE}),
        _events(_do(100, Kind.MIGRATE, _SERVES, _BLIND), _do(250, Kind.ROLLBACK), _do(500, Kind.CALM, share=1.0)),
    ),
    Fault(
        "a rehearsal loads into what serves",
        "adapters.docker.scratch:scratch_container",
        _the_original,
        frozenset({Sentence.ONE_MOMENT, Sentence.ROWS_KEPT}),
        _events(_do(120, Kind.REHEARSE), _do(300, Kind.CALM, share=1.0)),
    ),
    Fault(
        "a restore does not say that its data are of another release",
        "core.deployment.release:data_of_another_release",
        lambda _: lambda *_: "",
        frozenset({Sentence.READABLE}),
        _events(
            _do(100, Kind.MIGRATE, _SERVES, _BLIND),
            _do(200, Kind.SNAPSHOT),
            _do(250, Kind.ROLLBACK_WITH_DATA),
            _do(400, Kind.RESTORE),
            _do(700, Kind.CALM, share=1.0),
        ),
    ),
    Fault(
        "a file is saved only while its service runs",
        "tasks.storage.snapshots:place_of",
        _only_what_runs,
        frozenset({Sentence.START_HELPS}),
        _events(_do(100, Kind.MIGRATE, _CRASHES), _do(400, Kind.CALM), first=_NOT_BLIND),
    ),
    Fault(
        "data that are back and on which nothing runs stay marked half restored",
        "flows.storage.restoring#DataRestore:_settle_own",
        _leaves_mark,
        frozenset({Sentence.START_HELPS}),
        _events(
            _do(100, Kind.MIGRATE, _CRASHES),
            _do(300, Kind.SNAPSHOT),
            _do(350, Kind.RESTORE),
            _do(600, Kind.CALM),
            first=_NOT_BLIND,
        ),
    ),
    Fault(
        "a restore that another one overtook goes on",
        "flows.storage.restoring#DataRestore:take_up",
        _goes_on_even_so,
        _MIXES,
        _events(*_KILLED_LATER, _do(200, Kind.RESTORE), _do(320, Kind.RESUME), _do(500, Kind.CALM, share=1.0)),
        seed=_WITH_POSTGRESQL,
    ),
    Fault(
        "a restore over half restored data saves these",
        "flows.storage.restoring#DataRestore:_begin_over",
        _forgotten,
        _MIXES,
        _events(
            *_KILLED, _do(199, Kind.END_AT_LOAD, share=1.0), _do(200, Kind.RESTORE), _do(500, Kind.CALM, share=1.0)
        ),
    ),
    Fault(
        "a restore that is resumed takes all parts for put back",
        "flows.storage.restoring#DataRestore:_put_parts_back",
        _takes_all_for_put_back,
        _MIXES,
        _events(*_KILLED_LATER, _do(200, Kind.RESUME), _do(400, Kind.CALM, share=1.0)),
    ),
    Fault(
        "an undoing that is resumed takes all parts for put back",
        "flows.storage.restoring#DataRestore:_put_parts_back",
        _takes_all_for_put_back,
        _MIXES,
        _events(
            _do(119, Kind.END_AT_LOAD, share=1.0),
            _do(120, Kind.RESTORE),
            _do(128.1, Kind.END_AT_LOAD, 1),
            _do(200, Kind.RESUME),
            _do(400, Kind.CALM, share=1.0),
        ),
    ),
    Fault(
        "a rollback with data that is resumed chooses its data anew",
        "flows.deployment.rollback:choose_snapshot",
        _newest,
        _MIXES,
        _events(
            _do(100, Kind.MIGRATE, _SERVES),
            _do(249, Kind.END_AT_LOAD, 1),
            _do(250, Kind.ROLLBACK_WITH_DATA),
            _do(330, Kind.RESUME),
            _do(500, Kind.CALM, share=1.0),
        ),
    ),
)
