"""Retention: the steps of the life cycle, each a task that can be repeated."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import Task, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from adapters.config.environment_files import known_environments
from adapters.stores.lifecycle import steps as lifecycle
from adapters.stores.stores import Stores
from core.storage.retention import cutoffs
from models.failures import RoasError, StoreError
from models.settings import current_settings
from models.storage import LifecycleStep, RetentionPolicy
from tasks.deployment.kept_files import sweep_kept_files
from tasks.deployment.release import release_images
from tasks.runtime.project import open_project
from tasks.runtime.retry_policy import WRITE
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

_Step = Callable[[Stores, datetime, RetentionPolicy | None, bool], LifecycleStep]
LifecycleTask = Task[[bool], Coroutine[Any, Any, LifecycleStep]]
# A step bounds its own time by its policy; this only ends one that hangs.
_LONG = WRITE | {"timeout_seconds": 3600}

_WENT_WELL = [StateType.COMPLETED, StateType.CANCELLED]
_FAILED = [StateType.FAILED, StateType.CRASHED]
_RUNS_AT_ONCE = 100
_LOG_BYTES = 8 * 1024 * 1024


@task(name="clear away", **_LONG)
async def clear_away(dry_run: bool) -> LifecycleStep:
    """Remove what grows beside the stores: the engine's runs and results, its log, rows that wait, names of images."""
    now, policy = datetime.now(UTC), current_settings().retention
    limits = cutoffs(policy, now)
    deadline = time.monotonic() + policy.step_time.total_seconds()
    rows: dict[str, int] = {}
    notes: list[str] = []
    try:
        async with get_client() as client:
            for before, states in ((limits.runs, _WENT_WELL), (limits.failed_runs, _FAILED)):
                count = await _remove_runs(client, before, states, deadline, dry_run=dry_run)
                rows["runs"] = rows.get("runs", 0) + count
    except (httpx.HTTPError, PrefectHTTPStatusError, OSError) as error:
        notes.append(f"Prefect's runs stay: {error or type(error).__name__}")
    rows["results"], freed = await asyncio.to_thread(_remove_results, limits.failed_runs, dry_run)
    freed += await asyncio.to_thread(_cut_log, current_settings().data_dir / "prefect" / "server.log", dry_run)
    if not dry_run:
        notes += await asyncio.to_thread(_write_waiting_rows)
        notes += await asyncio.to_thread(_let_go)
    return LifecycleStep(
        name="clear away",
        dry_run=dry_run,
        rows=rows,
        bytes_before=freed,
        complete=time.monotonic() < deadline,
        notes=tuple(notes),
    )


async def _remove_runs(
    client: PrefectClient, before: datetime, states: list[StateType], deadline: float, *, dry_run: bool
) -> int:
    """Delete the engine's runs that ended before a moment, with their task runs, logs and states; how many."""
    which = FlowRunFilter(
        end_time=FlowRunFilterEndTime(before_=before),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
    )
    count = 0
    while time.monotonic() < deadline:
        runs = await client.read_flow_runs(
            flow_run_filter=which, limit=_RUNS_AT_ONCE, offset=count if dry_run else 0, sort=FlowRunSort.ID_DESC
        )
        if not dry_run:
            await asyncio.gather(*(_remove_run(client, run.id) for run in runs))
        count += len(runs)
        if len(runs) < _RUNS_AT_ONCE:
            break
    return count


async def _remove_run(client: PrefectClient, run: UUID) -> None:
    # A run that contained it may have taken it along.
    with suppress(ObjectNotFound):
        await client.delete_flow_run(run)


def _remove_results(before: datetime, dry_run: bool) -> tuple[int, int]:
    """Remove the results of runs that are kept no longer; how many files, and their bytes."""
    folder = Path(str(PREFECT_LOCAL_STORAGE_PATH.value()))
    old = [file for file in folder.glob("**/*") if file.is_file() and file.stat().st_mtime < before.timestamp()]
    size = sum(file.stat().st_size for file in old)
    if not dry_run:
        for file in old:
            file.unlink(missing_ok=True)
    return len(old), size


def _cut_log(log: Path, dry_run: bool) -> int:
    """Let the log of temporary servers begin anew where it has grown; what it held is kept once. Bytes freed."""
    if not log.exists() or log.stat().st_size < _LOG_BYTES:
        return 0
    before = log.with_name(f"{log.name}.1")
    freed = before.stat().st_size if before.exists() else 0
    if not dry_run:
        # Servers that run keep it open to append, so it is emptied in its place.
        shutil.copyfile(log, before)
        log.open("w").close()
    return freed


def _write_waiting_rows() -> list[str]:
    """Move what dead processes accepted into the stores."""
    try:
        open_stores().writer.flush()
    except StoreError as error:
        return [f"rows wait: {error}"]
    return []


def _let_go() -> list[str]:
    """Remove the mounted files and take the names from images of releases that are kept no longer."""
    notes = []
    engines: set[str] = set()
    try:
        sweep_kept_files()
    except RoasError as error:
        notes.append(f"mounted files of releases stay as they are: {error.what}")
    for name in known_environments(current_settings()):
        try:
            project = open_project(name)
            if project.environment.engine not in engines:
                engines.add(project.environment.engine)
                release_images(project)
        except RoasError as error:
            notes.append(f"images of {name} stay as they are: {error.what}")
    return notes


def _task_of(name: str, step: _Step) -> LifecycleTask:
    @task(name=name, **_LONG)
    async def carry_out(dry_run: bool) -> LifecycleStep:
        stores, policy = open_stores(), current_settings().retention
        if stores.is_restricted:
            # Each host would archive the records of all.
            note = "the control plane does it for the stores of all hosts"
            return LifecycleStep(name=name, dry_run=dry_run, notes=(note,))
        return await asyncio.to_thread(step, stores, datetime.now(UTC), policy, dry_run)

    return carry_out


STEPS: tuple[LifecycleTask, ...] = (
    _task_of("compress monitoring data", lifecycle.compress_monitoring),
    _task_of("clean up resolved errors", lifecycle.clean_errors),
    _task_of("archive deployment logs", lifecycle.archive_deployments),
    _task_of("optimise indexes", lifecycle.optimise),
    _task_of("vacuum", lifecycle.vacuum),
    clear_away,
)
"""The life cycle in order; each step is given `dry_run`, with which it changes nothing."""
