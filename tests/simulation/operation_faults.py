"""Deliberate faults of operations: what starts, updates, rolls back and stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from models.operations import OperationStatus
from tests.simulation.actions import Kind
from tests.simulation.fault import (
    CRASHES,
    CRASHES_LATER,
    HANGS,
    Fault,
    always,
    always_later,
    broken,
    events,
    put,
)
from tests.simulation.sentences import Sentence


def _all_succeeded(finish: Any) -> Any:
    def call(self: Any, deployment_id: str, _status: Any, *more: Any, **named: Any) -> Any:
        return finish(self, deployment_id, OperationStatus.SUCCESS, *more, **named)

    return call


def _takes_any(_: Any) -> Any:
    from tasks.deployment.lease import LeaseHold

    @asynccontextmanager
    async def hold(*_: Any, **__: Any) -> AsyncIterator[LeaseHold]:
        yield LeaseHold()

    return hold


def _proven_at_once(_: Any) -> Any:
    async def call(attempt: Any, *_: Any, **__: Any) -> Any:
        return await attempt.inspect()

    return call


def _never_renews(_: Any) -> Any:
    async def call(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    return call


def _forgets_steps(take_up: Any) -> Any:
    async def call(recorder: Any, *more: Any) -> None:
        await take_up(recorder, *more)
        recorder.steps, recorder.done = (), frozenset()

    return call


def _keeps_another_image(inspect: Any) -> Any:
    async def call(*more: Any, **named: Any) -> Any:
        release = await inspect(*more, **named)
        return replace(release, images=dict.fromkeys(release.images, next(iter(release.images.values()), "")))

    return call


def _oldest_first(choose: Any) -> Any:
    return lambda releases, *more: choose(list(reversed(releases)), *more)


def _without_undo_after_a_cancel(settle: Any) -> Any:
    async def call(recorder: Any, error: BaseException, on_failure: Any, rollback: Any) -> None:
        await settle(recorder, error, on_failure, None if isinstance(error, asyncio.CancelledError) else rollback)

    return call


def _first_needs_first(waves: Any) -> Callable[..., Any]:
    return lambda *more: tuple(reversed(waves(*more)))


def _stops_others(stop: Any) -> Any:
    def call(engine: Any, container: Any, grace: timedelta) -> Any:
        for state in engine.containers.inspect_project("other", container.service):
            stop(engine, state, grace)
        return stop(engine, container, grace)

    return call


_BAD_UPDATE = events((60, Kind.UPDATE, "web", CRASHES, 0), (150, Kind.CALM, "", 0, 1))

OPERATION_FAULTS = (
    Fault(
        "a quarantine is ignored",
        "tasks.deployment.services:refused_images",
        always({}),
        broken(Sentence.QUARANTINE),
        events((60, Kind.UPDATE, "web", CRASHES, 0), (150, Kind.UPDATE, "web", 0, 0.9), (240, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "an image that failed is not held back",
        "flows.update.held_back:keep_failed_release",
        always_later(None),
        broken(Sentence.HELD_BACK),
        _BAD_UPDATE,
    ),
    Fault(
        "an update that fails is not undone",
        "flows.deployment.update:UPDATE_BACK",
        put(()),
        broken(Sentence.UNDONE, Sentence.HELD_BACK),
        _BAD_UPDATE,
    ),
    Fault(
        "an update that fails is undone in the wrong direction",
        "flows.deployment.update:UPDATE_BACK",
        lambda back: tuple(reversed(back)),
        broken(Sentence.UNDONE, Sentence.HELD_BACK),
        _BAD_UPDATE,
    ),
    Fault(
        "an update that fails starts what a person had stopped",
        "tasks.deployment.operations:is_meant_to_run",
        always_later(True),
        broken(Sentence.STAYS_STOPPED),
        events((60, Kind.STOP, "", 0, 0), (100, Kind.UPDATE, "web", CRASHES, 0), (200, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "names of images are not given back",
        "tasks.deployment.images:restore_names",
        always_later([]),
        broken(Sentence.UNDONE),
        _BAD_UPDATE,
    ),
    Fault(
        "Ctrl-C leaves an update half done",
        "flows.operation.recorder:_settle",
        _without_undo_after_a_cancel,
        broken(Sentence.UNDONE),
        events((60, Kind.UPDATE, "web", HANGS, 0), (75, Kind.INTERRUPT, "", 0, 0), (200, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "an operation that is resumed begins again",
        "flows.operation.recorder:_take_up",
        _forgets_steps,
        broken(Sentence.UNDONE),
        events(
            (60, Kind.UPDATE, "web", HANGS, 0),
            (75, Kind.KILL_OPERATION, "", 0, 0),
            (85, Kind.RESUME, "", 0, 0),
            (400, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "an update fetches nothing",
        "tasks.deployment.images:fetch_images",
        always_later(None),
        broken(Sentence.NEWEST),
        events((60, Kind.UPDATE, "web", 0, 0), (150, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a release is kept with another image",
        "tasks.deployment.release:inspect_release",
        _keeps_another_image,
        broken(Sentence.PROVEN),
        events((60, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a rollback goes to the oldest release",
        "core.deployment.release:to_go_back_to",
        _oldest_first,
        broken(Sentence.GOES_BACK),
        events(
            (60, Kind.UPDATE, "web", 0, 0),
            (120, Kind.UPDATE, "web", 0, 0),
            (180, Kind.ROLLBACK, "", 0, 0),
            (260, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "nothing is proven",
        "tasks.deployment.start_service:wait_until_proven",
        _proven_at_once,
        broken(Sentence.PROVEN, Sentence.START_HELPS),
        events((60, Kind.CALM, "", 0, 0)),
    ),
    Fault(
        "what is up once is proven",
        "models.environments#Environment:stabilisation",
        always(timedelta()),
        broken(Sentence.PROVEN),
        events((60, Kind.UPDATE, "web", CRASHES_LATER, 0), (150, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a service does not wait for what it needs",
        "flows.execution.execute#_StartExecution:_wait_for",
        always_later((0.0, None)),
        broken(Sentence.ORDER),
        events((60, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a stop begins with what others need",
        "core.deployment.plan:stop_waves",
        _first_needs_first,
        broken(Sentence.ORDER),
        events((60, Kind.STOP, "", 0, 0), (120, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a stop takes containers of another project",
        "tasks.deployment.services:_stop",
        _stops_others,
        broken(Sentence.FOREIGN),
        events((60, Kind.STOP, "", 0, 0), (120, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "what a person paused is replaced",
        "core.deployment.plan:_paused_containers",
        always(()),
        broken(Sentence.STAYS_PAUSED),
        events((60, Kind.PAUSE_CONTAINER, "web", 0, 0), (65, Kind.UPDATE, "web", 0, 0), (150, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "an operation holds nothing",
        "flows.operation.recorder:hold_environment",
        _takes_any,
        broken(Sentence.ONE_AT_A_TIME, Sentence.NO_DEFECT, Sentence.PROVEN, Sentence.ONE_END, Sentence.LEASE),
        events((60, Kind.UPDATE, "web", 0, 0), (66, Kind.STOP, "", 0, 0), (150, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "a lease is not renewed",
        "tasks.deployment.lease:_renew",
        _never_renews,
        broken(Sentence.LEASE, Sentence.ONE_AT_A_TIME),
        events((60, Kind.UPDATE, "db", HANGS, 0), (260, Kind.CALM, "", 0, 1)),
    ),
    Fault(
        "an interruption is not noticed",
        "tasks.deployment.operations:_end_orphans",
        always([]),
        broken(Sentence.ONE_END),
        events(
            (60, Kind.UPDATE, "web", 0, 0),
            (64, Kind.KILL_OPERATION, "", 0, 0),
            (100, Kind.START, "", 0, 0),
            (200, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "each end is recorded as a success",
        "adapters.stores.repositories.operations#Operations:finish",
        _all_succeeded,
        broken(Sentence.ONE_END),
        _BAD_UPDATE,
    ),
)
