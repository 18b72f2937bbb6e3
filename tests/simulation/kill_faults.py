"""Deliberate faults of what goes on after a kill: an operation, or an attempt of a recovery, that is taken up again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.actions import Kind
from tests.simulation.fault import CRASHES, Fault, broken, events
from tests.simulation.sentences import Sentence


def _chooses_anew(choose_release: Any) -> Any:
    async def call(project: Any, _: str | None, **named: Any) -> Any:
        return await choose_release(project, None, **named)

    return call


def _then_forgets_failed_images(take_up: Any) -> Any:
    async def call(recorder: Any, *more: Any) -> None:
        from tasks.deployment import images, services

        await take_up(recorder, *more)
        images.refused_images = services.refused_images = lambda *_: {}

    return call


def _then_forgets_pauses(take_up: Any) -> Any:
    async def call(recorder: Any, *more: Any) -> None:
        from core.deployment import plan

        await take_up(recorder, *more)
        plan._paused_containers = lambda _: ()

    return call


def _then_asks_nobody(execute: Any) -> Any:
    from models.recovery import RecoveryExecution

    async def no_objection(*_: Any) -> None:
        """Whatever a person wants."""

    async def call(case: Any, attempt: Any) -> Any:
        is_continued = isinstance(attempt, RecoveryExecution)
        return await execute(replace(case, objection=no_objection) if is_continued else case, attempt)

    return call


KILL_FAULTS = (
    Fault(
        "a rollback that is resumed chooses its release anew",
        "flows.deployment.rollback:choose_release",
        _chooses_anew,
        broken(Sentence.GOES_BACK),
        events(
            (60, Kind.UPDATE, "web", 0, 0),
            (120, Kind.UPDATE, "web", 0, 0),
            (180, Kind.ROLLBACK, "", 0, 0),
            (182, Kind.KILL_OPERATION, "", 0, 0),
            (200, Kind.RESUME, "", 0, 0),
            (300, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "an update that is resumed takes an image that failed since",
        "flows.operation.recorder:_take_up",
        _then_forgets_failed_images,
        broken(Sentence.QUARANTINE),
        events(
            (60, Kind.UPDATE, "web", CRASHES, 0),
            (61, Kind.KILL_OPERATION, "", 0, 0),
            (90, Kind.UPDATE, "web", 0, 0.9),
            (200, Kind.RESUME, "", 0, 0),
            (400, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "an update that is resumed replaces what a person paused since",
        "flows.operation.recorder:_take_up",
        _then_forgets_pauses,
        broken(Sentence.STAYS_PAUSED),
        events(
            (60, Kind.UPDATE, "web", 0, 0),
            (61, Kind.KILL_OPERATION, "", 0, 0),
            (70, Kind.PAUSE_CONTAINER, "web", 0, 0),
            (80, Kind.RESUME, "", 0, 0),
            (400, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "a rollback that is resumed replaces what a person paused since",
        "flows.operation.recorder:_take_up",
        _then_forgets_pauses,
        broken(Sentence.STAYS_PAUSED),
        events(
            (60, Kind.UPDATE, "web", 0, 0),
            (120, Kind.ROLLBACK, "", 0, 0),
            (120.03, Kind.KILL_OPERATION, "", 0, 0),
            (130, Kind.PAUSE_CONTAINER, "web", 0, 0),
            (140, Kind.RESUME, "", 0, 0),
            (400, Kind.CALM, "", 0, 1),
        ),
    ),
    Fault(
        "a recovery that is continued asks for no wish of a person",
        "flows.recovery.execute:execute",
        _then_asks_nobody,
        broken(Sentence.RECOVERY_PAUSED),
        events(
            (60, Kind.CRASH, "web", 0, 0),
            (60.16, Kind.KILL_AGENT, "", 0, 0),
            (60.2, Kind.PAUSE_RECOVERY, "web", 10, 0),
            (62.2, Kind.KILL_AGENT, "", 0, 0),
            (400, Kind.CALM, "", 0, 1),
        ),
    ),
)
