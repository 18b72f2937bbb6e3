"""Decide how long a service that serves has to go on before it counts as proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.common.exit_codes import describe_exit
from models.containers import ContainerState
from models.environments import Environment
from models.records import Release

SHORTENED = timedelta(seconds=2)
"""For what has proven already that it stays up: its health check passes more than once, and a crash at once shows."""

_ENDS_OF_A_STOP = frozenset({0, 130, 137, 143})


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededHold:
    """How long a service has to go on serving, and why so long."""

    needed: timedelta
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHistory:
    """The proven releases of its environment, and when a service failed last; None where no failure is on record."""

    releases: Sequence[Release] = ()
    failed_at: datetime | None = None


def needed_hold(
    environment: Environment, service: str, containers: Sequence[ContainerState], history: ServiceHistory | None
) -> NeededHold:
    """How long a service's containers, as they were before the start, have to go on serving.

    What the environment says counts. Otherwise containers of a configuration and image that were proven before, and
    did not fail since then, hold for less: there is nothing new in them that a longer time could show. A failure is on
    record, or the container itself shows it: it may not have been watched. `history` is None where what ran before
    says nothing, as for data that were restored.
    """
    needed = environment.stabilisation(service)
    if environment.says_stabilisation(service):
        return NeededHold(needed=needed, why="as the environment says")
    if history is None:
        return NeededHold(needed=needed, why="its container, its files or its data are new")
    shapes = {(container.declared_hash, container.image_id) for container in containers}
    alike = [
        release.created_at
        for release in history.releases
        if shapes == {(release.hashes.get(service), release.images.get(service))}
    ]
    if not alike:
        return NeededHold(needed=needed, why="this version of it was not proven before")
    if history.failed_at is not None and history.failed_at >= min(alike):
        return NeededHold(needed=needed, why=f"it failed at {history.failed_at:%Y-%m-%d %H:%M} UTC")
    if failed := next((container for container in containers if _has_failed(container)), None):
        restarts = failed.restart_count
        how = f"was restarted {restarts} times" if restarts else f"ended with {describe_exit(failed)}"
        return NeededHold(needed=needed, why=f"{failed.name} {how}")
    return NeededHold(needed=min(needed, SHORTENED), why="it was proven before, and has not failed since")


def _has_failed(container: ContainerState) -> bool:
    """Whether it shows a failure of its last life: the engine forgets that with the next start."""
    ended_badly = container.state == "exited" and container.exit_code not in _ENDS_OF_A_STOP
    return container.restart_count > 0 or container.oom_killed or ended_badly
