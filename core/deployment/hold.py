"""Decide how long a service that serves has to go on before it counts as proven."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.containers import ContainerState
from models.environments import Environment
from models.records import Release

SHORTENED = timedelta(seconds=2)
"""For what has proven already that it stays up: its health check passes more than once, and a crash at once shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededHold:
    """How long a service has to go on serving, and why so long."""

    needed: timedelta
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHistory:
    """The proven releases that contain a service, and when it failed last; None where no failure is on record."""

    releases: Sequence[Release] = ()
    failed_at: datetime | None = None


def needed_hold(
    environment: Environment, service: str, containers: Iterable[ContainerState], history: ServiceHistory | None
) -> NeededHold:
    """How long a service's containers have to go on serving.

    What the environment says counts. Otherwise containers of a configuration and image that were proven before, and
    did not fail since then, hold for less: there is nothing new in them that a longer time could show. `history` is
    None where what ran before says nothing, as for data that were restored.
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
    return NeededHold(needed=min(needed, SHORTENED), why="it was proven before, and has not failed since")
