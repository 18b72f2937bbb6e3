"""Maintenance of a host: in which order environments stop, and in which direction one goes on that was cut off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from core.deployment.needs import NeedsOf, dependants_of_environment
from models.maintenance import MaintainedEnvironment, Maintenance, Stage
from models.operations import Operation
from models.recovery import Pause


def stop_order(environments: Collection[str], needs: NeedsOf) -> list[str]:
    """Order environments so that each stops after all that need it; the reverse is the order of the start."""
    # Who needs another has fewer dependants than that one, which has all of them and him.
    return sorted(environments, key=lambda name: (len(dependants_of_environment(name, needs)), name))


def goes_up(maintenance: Maintenance, *, boot: str, now: datetime) -> bool:
    """Whether one that no process carries brings its environments up now; else it waits for a person or its end.

    One that waits for a person outlasts a boot: whoever changes a part of the machine may start it several times.
    """
    waits_for_person = maintenance.stage is Stage.STOPPED and not (maintenance.reboot or maintenance.command)
    has_booted = boot != maintenance.boot and not waits_for_person
    return has_booted or maintenance.stage is Stage.STARTING or now >= maintenance.until


def why_left(
    one: MaintainedEnvironment, maintenance: Maintenance, last: Operation | None, pauses: Sequence[Pause]
) -> str:
    """Why an environment is not brought up: a person acted on it since; empty where it is to be.

    `last` is its newest operation that says whether it is to run.
    """
    if last is None or last.deployment_id not in (one.after, one.start_id):
        is_newer = last is not None and last.started_at >= maintenance.begun_at
        return f"{last.kind} {last.deployment_id} came since" if last and is_newer else "it was not stopped"
    return next(
        (
            f"{pause.by} paused its recovery since"
            for pause in pauses
            if pause.service is None
            and pause.environment in (None, one.name)
            and pause.paused_at >= maintenance.begun_at
            and pause.reason != maintenance.title
        ),
        "",
    )
