"""Restore: bring an environment's data back to a snapshot, with a safety copy of the present data."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.deployment.release import data_of_another_release
from core.storage.snapshots import choose_snapshot, proof_of, what_would_be_lost
from flows.common import parameters
from flows.execution.execute import verify
from flows.execution.interrupted_fetch import SETTLE_NAMES
from flows.operation.recorder import ROLLING_BACK, OperationRequest
from flows.operation.steps import OperationRun, Step, operate, turn_back
from flows.recovery.escalate import escalate
from flows.storage.restoring import UNTOUCHED, DataRestore, start_again
from flows.storage.snapshot import forget_where_possible
from models.compose import Application
from models.failures import BadInputError
from models.health import HealthReport
from models.results import OperationResult, ServiceStart
from models.snapshots import DataSnapshot
from tasks.deployment.services import inspect_application, proven_releases, read_application
from tasks.storage.repository import settings_of
from tasks.storage.restores import count_later_deployments
from tasks.storage.snapshots import snapshots_of

log = logging.getLogger("roas")


@flow(name="restore", flow_run_name="restore the data of {environment}")
async def restore(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    snapshot: str | None = Field(None, description="Its id, as `roas snapshot list` shows it; without it the newest."),
    confirmed: bool = Field(False, description="On: what was written since the snapshot may be lost."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> OperationResult:
    """Stop what writes, save the present data, put the snapshot's data back, start, and prove.

    It is recorded as a start. One that fails is undone: the data is again what it was before.

    Raises:
        NotFoundError: There is no such snapshot that is whole.
        BadInputError: It is not confirmed.
        SnapshotError: A part cannot be saved or put back.
        StartFailedError: A service did not come up with that data.
    """
    run = Restore(wanted=snapshot, confirmed=confirmed)
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    await operate(run, RESTORE, environment, request, on_failure=escalate, back=RESTORE_BACK)
    reason = f"the data is that of snapshot {run.target.snapshot_id}: {len(run.starts)} services proven"
    return run.recorder.result(
        "; ".join(filter(None, (reason, run.record.data))),
        services=run.starts,
        health=run.health,
    )


@dataclass(slots=True, kw_only=True)
class Restore(OperationRun):
    """A restore of data: what it has found out and done so far."""

    wanted: str | None
    confirmed: bool
    application: Application = field(init=False)
    data: DataRestore = field(default_factory=DataRestore)
    target: DataSnapshot = field(init=False)
    starts: tuple[ServiceStart, ...] = ()
    health: HealthReport = field(init=False)


async def look(restore: Restore) -> None:
    """Load the environment, and find out how far an interrupted restore had come."""
    settings_of((await restore.recorder.open()).environment)
    restore.application = await read_application(restore.project)
    await restore.data.take_up(restore.recorder, restore.application)


async def choose(restore: Restore) -> str:
    """Choose the snapshot; taken up again it is the same.

    Raises:
        NotFoundError: There is no such snapshot that is whole.
        BadInputError: It is not confirmed.
    """
    name, wanted = restore.recorder.name, restore.recorder.step_detail(_WANTED) or restore.wanted
    target = restore.target = choose_snapshot(await snapshots_of(name), wanted, name)
    if not restore.confirmed:
        later = await asyncio.to_thread(count_later_deployments, target)
        raise BadInputError(
            what_would_be_lost(target, datetime.now(UTC), later), advice="Confirm that it may be (--yes)."
        )
    restore.record.restore, restore.record.proof = target.snapshot_id, proof_of(target)
    return target.snapshot_id


async def start(restore: Restore) -> None:
    """Start the application on the data that is there now."""
    restore.starts = await start_again(restore.recorder, restore.application)


async def prove(restore: Restore) -> None:
    """Judge the health of the whole."""
    restore.health = await verify(restore.recorder, restore.application)


async def compare_release(restore: Restore) -> None:
    """Put into the record where the data is of another release than the one that runs, which may not read it."""
    releases, states = await asyncio.gather(
        proven_releases(restore.recorder.name), inspect_application(restore.project)
    )
    restore.record.data = data_of_another_release(restore.target, releases, states)


async def forget_old_data(restore: Restore) -> None:
    """Forget what the policy keeps no longer, and settle the errors of earlier starts."""
    await forget_where_possible(restore.project)
    restore.recorder.settles = True


async def _put_data_back(restore: Restore) -> None:
    await restore.data.put_safety_back(restore.recorder)


async def start_on_data(restore: Restore) -> None:
    """Start the application on the data of before, prove it, and let the data stay."""
    restore.record.data = ""
    restore.starts, restore.record.undone = await restore.data.start_as_before(restore.recorder)
    log.warning("rollback: %s", restore.record.undone)


async def _say_that_nothing_changed(restore: Restore) -> None:
    restore.record.undone = UNTOUCHED


def _has_saved(restore: Restore) -> bool:
    """Whether what was there before is saved; until then nothing was touched."""
    return restore.data.safety is not None


def _has_touched_nothing(restore: Restore) -> bool:
    return not restore.data.may_have_stopped and not restore.data.is_touched


_WANTED = "snapshot"
"""Step of a restore: which snapshot it puts back, also where it is taken up again."""

RESTORE: tuple[Step[Restore], ...] = (
    Step("inspect", look, looks=True),
    Step(_WANTED, choose),
    SETTLE_NAMES,
    Step("put data in", lambda run: run.data.put_back(run.recorder, run.target)),
    Step("start", start),
    Step("prove", prove),
    Step("compare the release", compare_release),
    Step("settle data", lambda run: run.data.settle(run.recorder)),
    Step("forget old data", forget_old_data),
)
"""A restore of data."""

RESTORE_BACK: tuple[Step[Restore], ...] = (
    Step("report that nothing changed", _say_that_nothing_changed, when=_has_touched_nothing),
    Step(ROLLING_BACK, turn_back, when=lambda run: run.data.may_have_stopped),
    Step("put data back", _put_data_back, when=_has_saved),
    Step("start on data", start_on_data, when=lambda run: run.data.may_have_stopped),
)
"""How a restore that fails goes back: the data is again what it was before."""
