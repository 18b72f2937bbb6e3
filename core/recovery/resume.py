"""Decide which steps of an interrupted action remain."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from models.containers import ContainerState


def left_to_restart(
    mine: Sequence[ContainerState], *, since: datetime | None, asked_to_end: Collection[str]
) -> list[ContainerState]:
    """Return the containers that an interrupted restart, begun at `since`, has still to restart.

    `asked_to_end` are those that the engine was asked to stop since then: it starts them again itself. A container
    that is not up has to be started in any case.
    """
    if since is None:
        return list(mine)
    return [
        seen
        for seen in mine
        if not seen.up or (seen.container_id not in asked_to_end and not _after(seen.started_at, since))
    ]


def all_made_since(since: datetime | None, mine: Sequence[ContainerState]) -> bool:
    """Whether an interrupted recreation, begun at `since`, has created all containers."""
    return since is not None and bool(mine) and all(_after(seen.created_at, since) for seen in mine)


def _after(moment: datetime | None, since: datetime) -> bool:
    return moment is not None and moment > since
