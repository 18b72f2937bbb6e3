"""Preview a sync: which revision the source refers to now, and whether a sync takes it."""

from __future__ import annotations

from datetime import timedelta

from core.deployment.source import SyncOptions, SyncPlan, decide
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.source import (
    declared_source,
    fetch_source,
    hold_source,
    running_revision,
    source_state,
)
from tasks.runtime.project import Project


async def preview_sync(project: Project) -> SyncPlan:
    """Fetch the source, and decide what a sync does with it; nothing else changes.

    Raises:
        BadInputError: The environment has no source.
        EnvironmentBusyError: Another process uses the source.
        SourceError: It cannot be fetched, or not be taken without a user's word.
    """
    environment = project.environment
    declared_source(environment)
    async with hold_source(environment, timedelta()):
        running = await running_revision(environment)
        # Without a run of Prefect: a preview leaves no record.
        fetched = await fetch_source.fn(project, running.revision if running else None)
        state, meant_to_run = await source_state(environment), await is_meant_to_run(environment.name)
    decision = decide(environment.name, fetched, running, state, SyncOptions(), meant_to_run=meant_to_run)
    return SyncPlan(action=decision.action, reason=decision.reason, revision=fetched.target, running=running)
