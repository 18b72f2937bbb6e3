"""Read the snapshots of an environment's data, without what saves them."""

from __future__ import annotations

from models.snapshots import DataSnapshot
from tasks.runtime.stores import open_stores, stores_exist


def read_snapshots(environment: str) -> list[DataSnapshot]:
    """The snapshots of an environment, newest first, those that failed too.

    Raises:
        StoreError: The store cannot be read.
    """
    return open_stores().snapshots.list_for(environment) if stores_exist() else []
