"""Say what a rollback or a restore would undo and lose, before anybody confirms it. Nothing is changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from core.deployment.release import data_of_another_release
from core.storage.snapshots import proof_of, snapshot_of_release, what_would_be_lost
from models.previews import RestorePreview, RollbackPreview
from models.snapshots import DataSnapshot
from tasks.deployment.release import choose_release
from tasks.deployment.services import inspect_application, proven_releases
from tasks.reporting.read import read_releases
from tasks.reporting.snapshots import read_snapshots
from tasks.runtime.project import Project
from tasks.storage.changes import changes_since
from tasks.storage.restores import count_later_deployments


async def preview_restore(project: Project, snapshot: DataSnapshot) -> RestorePreview:
    """What a restore of a snapshot loses, with figures where they can be had within some 20 s.

    Raises:
        EngineError: The engine does not say what runs.
    """
    releases, states = await asyncio.gather(proven_releases(snapshot.environment), inspect_application(project))
    loss = await _loss_by_restore(project, snapshot)
    return replace(loss, other_release=data_of_another_release(snapshot, releases, states))


async def _loss_by_restore(project: Project, snapshot: DataSnapshot) -> RestorePreview:
    return RestorePreview(
        environment=snapshot.environment,
        snapshot_id=snapshot.snapshot_id,
        proof=proof_of(snapshot),
        loss=what_would_be_lost(snapshot, datetime.now(UTC), count_later_deployments(snapshot)),
        changes=await changes_since(project, snapshot),
    )


async def preview_rollback(project: Project, release: str | None, *, with_data: bool) -> RollbackPreview:
    """Which release a rollback brings back, what of later ones it undoes, and with its data what is lost.

    Raises:
        NotFoundError: There is no such release, or no snapshot was taken when it was replaced.
        BadInputError: None differs from what runs.
    """
    name = project.environment.name
    target = await choose_release(project, release, with_data=with_data)
    data = None
    if with_data:
        data = await _loss_by_restore(project, snapshot_of_release(read_snapshots(name), target))
    later_releases = tuple(
        f"{details.release.release_id}: {'; '.join(details.changes) or 'the first one'}"
        for details in read_releases(name)
        if details.release.proven and details.release.created_at > target.created_at
    )
    return RollbackPreview(
        environment=name,
        release_id=target.release_id,
        proven_at=target.created_at,
        later_releases=later_releases,
        data=data,
    )
