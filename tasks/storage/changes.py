"""Say what was written to an environment's data since a snapshot, in figures, within a bounded time."""

from __future__ import annotations

import asyncio

from adapters.snapshots.streams import Limit
from core.storage.changes import NOT_COUNTED
from models.compose import Application
from models.failures import RoasError
from models.snapshots import DataSnapshot, SavedData
from tasks.deployment.services import read_known
from tasks.runtime.project import Project
from tasks.storage.snapshots import client_of, part_of_snapshot, parts_declared, place_of

_SECONDS = 20.0


async def changes_since(project: Project, snapshot: DataSnapshot) -> dict[str, str]:
    """What was written to each part since a snapshot, for a person; where it cannot be known cheaply, that it was not.

    Nothing is changed, and it takes at most some 20 s.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            application = await read_known(project)
            data = parts_declared(project.environment, snapshot)
            texts = await asyncio.gather(
                *(_changes_of(project, application, declared_part, snapshot) for declared_part in data)
            )
    except (RoasError, TimeoutError):
        return {part.name: NOT_COUNTED for part in snapshot.parts}
    return {declared_part.name: text for declared_part, text in zip(data, texts, strict=True)}


async def _changes_of(project: Project, application: Application, data: SavedData, snapshot: DataSnapshot) -> str:
    try:
        place = await place_of(project, application, data)
        client = client_of(project.environment, snapshot.snapshot_id, Limit(_SECONDS))
        part = part_of_snapshot(snapshot, data)
        return await asyncio.to_thread(client.changes, data, part, place, snapshot.begun_at)
    except (RoasError, OSError, ValueError):
        return NOT_COUNTED
