"""Read whether an environment's snapshots are as new as it asks for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from core.storage.freshness import snapshot_problems
from models.environments import Environment
from tasks.runtime.stores import open_stores


async def read_snapshot_problems(environment: Environment) -> tuple[str, ...]:
    """What is wrong with its snapshots by its own policy; nothing where it has none.

    Raises:
        StoreError: The store cannot be read.
    """
    if environment.data is None or environment.data.max_age_hours is None:
        return ()
    snapshots = await asyncio.to_thread(open_stores().snapshots.list_for, environment.name)
    return snapshot_problems(environment, snapshots, datetime.now(UTC))
