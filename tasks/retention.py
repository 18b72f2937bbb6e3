"""Retention: the five steps of the life cycle, each a task that can be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from prefect import task

from adapters.stores import lifecycle
from adapters.stores.stores import Stores
from models.retention import LifecycleStep, RetentionPolicy
from tasks.patience import WRITE
from tasks.stores import open_stores

_Step = Callable[[Stores, datetime, RetentionPolicy | None, bool], LifecycleStep]
# A step bounds its own time by its policy; this only ends one that hangs.
_LONG = WRITE | {"timeout_seconds": 3600}


@task(name="compress monitoring data", **_LONG)
async def compress_monitoring(dry_run: bool) -> LifecycleStep:
    """Roll up, archive and delete samples that are older than the policy keeps."""
    return await _carry_out(lifecycle.compress_monitoring, dry_run)


@task(name="clean up resolved errors", **_LONG)
async def clean_errors(dry_run: bool) -> LifecycleStep:
    """Archive and delete errors resolved long ago; unresolved ones never."""
    return await _carry_out(lifecycle.clean_errors, dry_run)


@task(name="archive deployment logs", **_LONG)
async def archive_deployments(dry_run: bool) -> LifecycleStep:
    """Archive old operations with all that belongs to them, verify, then delete."""
    return await _carry_out(lifecycle.archive_deployments, dry_run)


@task(name="optimise indexes", **_LONG)
async def optimise(dry_run: bool) -> LifecycleStep:
    """Refresh what the query planner knows, and check the stores."""
    return await _carry_out(lifecycle.optimise, dry_run)


@task(name="vacuum", **_LONG)
async def vacuum(dry_run: bool) -> LifecycleStep:
    """Give space back where it pays and fits on the disk."""
    return await _carry_out(lifecycle.vacuum, dry_run)


async def _carry_out(step: _Step, dry_run: bool) -> LifecycleStep:
    return await asyncio.to_thread(step, open_stores(), datetime.now(UTC), None, dry_run)
