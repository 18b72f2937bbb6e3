"""Roll back: bring back a proven release and prove it again, or undo a start that failed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace

from prefect import flow
from pydantic import Field

from core.deployment.hooks import later_data_warning, proof_of_rollback, proves_data
from core.deployment.plan import refuse_paused
from core.deployment.release import differences, is_there
from core.storage.snapshots import choose_snapshot, proof_of, snapshot_of_release
from flows.common import parameters
from flows.common.requester import require_consent
from flows.execution.execute import keep_proven
from flows.execution.going_back import (
    CHECK_BACK,
    CONTAINERS_BACK,
    SETTLE_BACK,
    TURN_BACK,
    Change,
    apply_release,
    describe_kept,
    recall_before,
    remember,
)
from flows.execution.hook_checks import check_after_rollback
from flows.execution.interrupted_fetch import SETTLE_NAMES
from flows.operation.recorder import ROLLING_BACK, OperationRequest
from flows.operation.steps import Step, operate, turn_back
from flows.recovery.escalate import escalate
from flows.source.pin import pin_to
from flows.storage.restoring import DataRestore
from models.compose import Application
from models.failures import BadInputError, ReleaseError, StartFailedError
from models.health import HealthReport
from models.operations import FOUND
from models.records import Release
from models.results import OperationResult, ServiceStart
from models.snapshots import DataSnapshot
from tasks.deployment.configuration import refuse_broken_proxies
from tasks.deployment.release import choose_release, held_back_since, may_have_changed_data, services_with_other_files
from tasks.deployment.services import inspect_application, proven_releases, read_application, snapshot_containers
from tasks.storage.repository import settings_of
from tasks.storage.restores import refuse_half_restored
from tasks.storage.snapshots import end_own_pauses, snapshots_of

log = logging.getLogger("roas")

_WANTED = "release"
"""Step of a rollback: which release it brings back, also where it is taken up again."""
_RAN = "ran before"
"""Step of a rollback: the proven release that ran before it; without detail where none did."""
_DATA_OF = "data of"
"""Step of a rollback with data: which snapshot it puts back, also where it is taken up again."""


@flow(name="rollback", flow_run_name="roll back {environment}")
async def rollback(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    release: str | None = Field(
        None, description="Its id, as `roas releases` lists it; without it the newest that is not what runs now."
    ),
    with_data: bool = Field(
        False, description="On: also put back the data of before the release was replaced; what came since is lost."
    ),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    confirm: str = parameters.CONFIRM,
) -> OperationResult:
    """Bring an environment back to a proven release: the named one, or the newest that is not what runs now.

    It is recorded as a start of that release. Volumes are left alone, unless its data is put back too. Values of
    variables, secrets and configuration files that differ now are those that the release kept; what is on disk stays as
    it is, and the next start uses it. One that fails is undone like any start.

    Raises:
        NotFoundError: There is no such release, or no snapshot of its data.
        BadInputError: None differs from what runs. Or the environment is locked, and `confirm` is not its name.
        ReleaseError: The release cannot be applied any more.
        StartFailedError: A service of it did not come up; or it serves, and a hook that checks it failed.
        ValidationFailedError: A proxy that runs refuses its configuration, so it could not follow, and the release
            brings no other; nothing was touched.
    """
    run = ReleaseRollback(wanted=release, with_data=with_data, confirm=confirm, asked_by=asked_by)
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    await operate(run, ROLLBACK, environment, request, on_failure=escalate, back=ROLLBACK_BACK)
    return run.recorder.result(run.proof, services=run.starts, health=run.health)


@dataclass(slots=True, kw_only=True)
class ReleaseRollback(Change):
    """A rollback that a person asks for; `release` is then what it goes back to where it fails itself."""

    wanted: str | None
    with_data: bool
    confirm: str
    asked_by: str | None
    target: Release = field(init=False)
    releases: list[Release] = field(init=False)
    """The proven ones, the newest first."""
    data: DataRestore = field(default_factory=DataRestore)
    snapshot: DataSnapshot = field(init=False)
    released: Application = field(init=False)
    starts: tuple[ServiceStart, ...] = ()
    health: HealthReport = field(init=False)
    proof: str = ""


async def look(rollback: ReleaseRollback) -> None:
    """Load the environment, and find out how far an interrupted restore of its data had come."""
    recorder = rollback.recorder
    await recorder.open()
    if not recorder.interrupted:
        await require_consent(recorder.name, "rollback", rollback.confirm, rollback.asked_by)
    await refuse_half_restored(recorder.environment, recorder.deployment_id)
    await end_own_pauses(rollback.environment)
    rollback.application = await read_application(rollback.project)
    if rollback.with_data:
        await rollback.data.take_up(recorder, rollback.application)


async def choose(rollback: ReleaseRollback) -> str:
    """Choose the release; taken up again it is the same.

    Raises:
        NotFoundError: There is no such release.
        BadInputError: None differs from what runs, which one was chosen is not on record, or a person paused a service.
        ValidationFailedError: A proxy that runs refuses its configuration, and the release brings no other.
    """
    recorder, environment, application = rollback.recorder, rollback.environment, rollback.application
    name, recorded_id, is_new = environment.name, recorder.step_detail(_WANTED), recorder.step_detail(FOUND) is None
    if not is_new and recorded_id is None:
        # A version before this one recorded it only with data.
        raise BadInputError(
            f"Which release {recorder.deployment_id} chose is not on record;",
            advice=f"`roas releases {name}` lists them, `roas rollback {name} RELEASE` takes one.",
        )
    rollback.before, states, rollback.releases = await asyncio.gather(
        snapshot_containers(rollback.project), inspect_application(rollback.project), proven_releases(name)
    )
    # Proven would be what a person paused, and that is of another release.
    refuse_paused(states, set(application.services), "a rollback")
    with_data = rollback.with_data and is_new
    target = await choose_release(rollback.project, recorded_id or rollback.wanted, with_data=with_data)
    if is_new:
        other_files = await services_with_other_files(rollback.project, application, target)
        await refuse_broken_proxies(rollback.project, application, recorder.deployment_id, other_files)
    rollback.target = target
    return target.release_id


async def find_what_ran(rollback: ReleaseRollback) -> str:
    """Find the containers and the release that ran before, to go back to; of the first run where it was interrupted."""
    recorder = rollback.recorder
    if (detail := recorder.step_detail(FOUND)) is None:
        states = await inspect_application(rollback.project)
        ran = next((release for release in rollback.releases if is_there(release, states)), None)
    else:
        # The containers of before may be gone, but not the release that they were of.
        ran_id, rollback.before = recorder.step_detail(_RAN), recall_before(detail)
        ran = next((release for release in rollback.releases if release.release_id == ran_id), None)
        rollback.release = ran
    return ran.release_id if ran is not None else ""


async def note_choice(rollback: ReleaseRollback) -> None:
    """Put into the record what the rollback changes.

    Raises:
        ReleaseError: Another operation failed with an image of the release since it was chosen.
    """
    recorder, target, name = rollback.recorder, rollback.target, rollback.environment.name
    is_resumed = recorder.step_detail(_WANTED) is not None and not rollback.goes_back
    if is_resumed and (why := await held_back_since(name, target, recorder.started_at)):
        raise ReleaseError(
            f"Release {target.release_id} is not brought back any further: {why}.",
            advice=f"`roas rollback {name} RELEASE` brings back another release, or this one all the same.",
        )
    changes = differences(rollback.releases[0], target) if rollback.releases else ()
    rollback.record.rollback_to, rollback.record.changes = target.release_id, tuple(changes)
    log.info("rolling back to release %s: %s", target.release_id, "; ".join(changes) or "it is the latest one")


async def choose_data(rollback: ReleaseRollback) -> str:
    """Choose the data of before the release was replaced.

    Raises:
        NotFoundError: No snapshot was taken then.
    """
    environment = rollback.environment
    settings_of(environment)
    snapshots, snapshot_id = await snapshots_of(environment.name), rollback.recorder.step_detail(_DATA_OF)
    snapshot = (
        choose_snapshot(snapshots, snapshot_id, environment.name)
        if snapshot_id
        else snapshot_of_release(snapshots, rollback.target)
    )
    rollback.snapshot = snapshot
    rollback.record.data_of, rollback.record.proof = snapshot.snapshot_id, proof_of(snapshot)
    return snapshot.snapshot_id


async def bring_back(rollback: ReleaseRollback) -> None:
    """Put the data back where that is asked for, and the release, with later syncs pinned to it."""
    recorder, target = rollback.recorder, rollback.target
    async with pin_to(recorder, target, rollback.asked_by):
        if (failure := recorder.earlier_failure) is not None:
            raise failure
        if rollback.with_data:
            await rollback.data.put_back(recorder, rollback.snapshot)
        rollback.released, rollback.starts, rollback.health = await apply_release(recorder, target)
    rollback.record.health = str(rollback.health.overall)


async def check_release(rollback: ReleaseRollback) -> None:
    """Let the hooks of a rollback check the release that serves again.

    Raises:
        StartFailedError: One failed.
    """
    environment, target = rollback.environment, rollback.target
    # It serves, as a person asked: from here on nothing goes back to what that person left.
    rollback.armed = False
    runs = await check_after_rollback(rollback.recorder, rollback.released)
    changed = not rollback.with_data and await may_have_changed_data(environment, target)
    if changed and not proves_data(runs, ()):
        rollback.record.data = later_data_warning(target.release_id)
    proof = proof_of_rollback(len(rollback.starts), environment.hooks, runs, data_changed=changed)
    rollback.proof = f"release {target.release_id} serves again: {'; '.join((proof, *describe_kept(rollback.record)))}"
    if failed := next((run for run in runs if not run.ok and not run.warns), None):
        raise StartFailedError(
            f"{rollback.proof}.",
            advice=f"`roas snapshot list {environment.name}` shows the data that can be put back, and `roas releases "
            f"{environment.name}` the other releases.",
            service=failed.service,
        )


async def keep_release(rollback: ReleaseRollback) -> None:
    """Keep what runs now as a proven release."""
    target = rollback.target
    await keep_proven(rollback.recorder, rollback.released, target.compose, of=target)


async def put_data_back(rollback: ReleaseRollback) -> None:
    """Put the data back as it was; what is started before would write to data of which only a part is old."""
    await rollback.data.put_safety_back(rollback.recorder)


async def start_on_data(rollback: ReleaseRollback) -> None:
    """Start what is to run on the data of before, prove it, and let the data stay."""
    _, words = await rollback.data.start_as_before(rollback.recorder)
    rollback.record.undone = f"{rollback.record.undone or 'no container was replaced'}; {words}"
    log.warning("rollback: %s", rollback.record.undone)


def _has_data(rollback: ReleaseRollback) -> bool:
    return rollback.with_data and rollback.recorder.opened is not None


ROLLBACK: tuple[Step[ReleaseRollback], ...] = (
    Step("inspect", look, looks=True),
    Step(_WANTED, choose, looks=True),
    Step(_RAN, find_what_ran, looks=True),
    Step(FOUND, remember, looks=True),
    SETTLE_NAMES,
    Step("note the choice", note_choice, looks=True),
    Step(_DATA_OF, choose_data, when=_has_data),
    Step("bring the release back", bring_back, looks=True),
    Step("settle data", lambda run: run.data.settle(run.recorder), when=_has_data),
    Step("check the release", check_release),
    Step("keep release", keep_release),
    replace(SETTLE_NAMES, name="settle names that were in use"),
)
"""A rollback that a person asks for."""

ROLLBACK_BACK: tuple[Step[ReleaseRollback], ...] = (
    Step(ROLLING_BACK, turn_back, when=_has_data),
    Step("put data back", put_data_back, when=_has_data),
    TURN_BACK,
    SETTLE_BACK,
    CONTAINERS_BACK,
    CHECK_BACK,
    Step("start on data", start_on_data, when=lambda run: run.data.may_have_stopped),
)
"""How a rollback that fails goes back itself."""
