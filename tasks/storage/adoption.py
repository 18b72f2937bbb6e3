"""Take snapshots that the repository has and the store does not know into the store's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.snapshots.streams import Limit
from core.storage.snapshots import as_manifest_says, as_saved, to_adopt, unknown
from models.environments import Environment
from models.snapshots import DataSnapshot, SnapshotReason, UnknownSnapshot
from tasks.runtime.stores import open_stores
from tasks.storage.repository import repository_of, settings_of
from tasks.storage.snapshots import call_in_thread, read_manifest

_SECONDS = 600.0


async def unknown_snapshots(environment: Environment) -> list[UnknownSnapshot]:
    """The snapshots of an environment that its repository has and the store does not know, newest first.

    Raises:
        SnapshotError: The repository cannot be read.
    """
    settings_of(environment)

    def find(limit: Limit) -> list[UnknownSnapshot]:
        entries = repository_of(environment).entries(limit)
        return unknown(entries, open_stores().snapshots.list_for(environment.name))

    return await call_in_thread(find, _SECONDS)


async def adopt_snapshots(environment: Environment, snapshot_ids: Sequence[str]) -> list[DataSnapshot]:
    """Record unknown snapshots as whole, those of these ids, or without any all that are complete; what was recorded.

    One of this installation is as before, so that data.keep decides about it. One of another is never forgotten here.

    Raises:
        NotFoundError: There is no such unknown snapshot.
        BadInputError: One is not complete.
        SnapshotError: The repository cannot be read, or a snapshot in it lacks a part.
    """
    settings = settings_of(environment)

    def adopt(limit: Limit) -> list[DataSnapshot]:
        repository, stores = repository_of(environment), open_stores()
        # Before the records: what is begun after that has its record before its first part.
        entries = repository.entries(limit)
        candidates = unknown(entries, stores.snapshots.list_for(environment.name))
        adopted = []
        for candidate in to_adopt(candidates, snapshot_ids, environment.name):
            snapshot_entries = [
                entry
                for entry in entries
                if (entry.snapshot_id, entry.installation) == (candidate.snapshot_id, candidate.installation)
            ]
            manifest = next((entry for entry in snapshot_entries if entry.is_manifest), None)
            if manifest is None:
                snapshot = as_saved(candidate, snapshot_entries, settings, environment)
            else:
                snapshot = as_manifest_says(read_manifest(repository, manifest, limit), snapshot_entries, manifest)
            is_own = candidate.installation == repository.installation
            reason = snapshot.reason if is_own else SnapshotReason.ADOPTED
            adopted.append(replace(snapshot, environment=environment.name, reason=reason))
        for snapshot in adopted:
            stores.snapshots.begin(snapshot)
        return adopted

    return await call_in_thread(adopt, _SECONDS)
