"""Sync an environment with its repository or artifact: take a new revision like an update, or leave all as it was."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from core.deployment.source import (
    SyncAction,
    SyncDecision,
    SyncOptions,
    decide,
    lift_revisions,
    refuse_another_revision,
    state_after_failure,
)
from core.deployment.update_policy import outside_of_windows
from flows.common import parameters
from flows.common.requester import requester, require_consent
from flows.deployment.update import UPDATE, WARN_OF_DATA, may_hold_back, tried_release
from flows.execution.going_back import CHECK_BACK, CONTAINERS_BACK, NAMES_BACK, SETTLE_BACK, TURN_BACK
from flows.operation.recorder import OperationRequest, record_operation
from flows.operation.steps import Step, go_back, run_steps
from flows.recovery.escalate import escalate
from flows.source.failure import forget_source_failure, record_source_failure
from flows.source.status import report_result, report_unreported
from flows.update.context import Update
from flows.update.gate import override_reason
from flows.update.held_back import keep_failed_release
from models.compose import OF_UPDATE
from models.environments import Environment
from models.failures import (
    BadInputError,
    ComposeError,
    GateRefusedError,
    RoasError,
    SourceError,
    StartFailedError,
    ValidationFailedError,
)
from models.operations import OperationType
from models.operations.record import TakenRevision
from models.records import Release
from models.results import OperationResult
from models.sources import SourceRevision, SourceState
from tasks.deployment.operations import is_meant_to_run
from tasks.deployment.services import read_application
from tasks.deployment.source import (
    change_state,
    current_revision,
    declared_source,
    fetch_source,
    hold_source,
    refuse_untracked_data,
    remove_old_checkouts,
    running_revision,
    source_state,
    switch_checkout,
)
from tasks.runtime.project import Project, load_project

log = logging.getLogger("roas")

TAKING = "taking a revision"
"""Step of an operation: the checkout is about to change; its detail is the revision, and the one that ran before."""

_OF_THE_REVISION = (StartFailedError, ValidationFailedError, GateRefusedError, ComposeError, SourceError)
"""Failures that a revision may be the cause of; only the first are surely its own."""


@flow(name="sync", flow_run_name="sync {environment}")
async def sync(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    allow_rewritten: bool = Field(False, description="Take history that was rewritten, such as by a forced push."),
    discard_changes: bool = Field(False, description="Go on without changes to files in the checkout."),
    unpin: bool = Field(False, description="Go forward again over a rollback."),
    lift: str | None = Field(None, description="A revision that failed before: take it again."),
    revision: str | None = Field(None, description="Take exactly this revision, or nothing."),
    now: bool = Field(False, description="Also outside of the environment's update windows."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
    override_gate: str | None = Field(
        None, description="Why the update may go on although the environment's gate refuses the images."
    ),
    confirm: str = parameters.CONFIRM,
) -> OperationResult | State[Any]:
    """Fetch the branch or tag of an environment's source, and update to its revision if it is new.

    The revision is checked out completely before it counts, and updated to like `roas update` does. One that fails is
    rolled back, the checkout with it, and held back: no later sync takes it until a user lifts that. With nothing new,
    a pinned environment or a revision that is held back nothing is recorded; the result says which. A source that
    cannot be fetched is recorded as an update that failed.

    Raises:
        SourceError: The repository cannot be fetched, is not signed, was rewritten, or the checkout was changed.
        GateRefusedError: The environment's gate refuses the images; nothing was touched.
        StartFailedError: A service of the new revision did not come up.
        PlanChangedError: The branch or tag refers to another revision than `revision`.
        BadInputError: The environment is locked, and `confirm` is not its name.
    """
    override = override_reason(override_gate)
    project = await load_project(environment, ())
    declared = project.environment
    declared_source(declared)
    request = OperationRequest(asked_by, deployment_id, None, wait_seconds)
    if deployment_id is None:
        await require_consent(environment, "sync", confirm, asked_by)
    async with hold_source(declared, timedelta(seconds=wait_seconds)):
        if deployment_id is not None:
            return await _update(declared, None, request, override)
        if unpin or lift:
            await _lift(declared, unpin=unpin, revision=lift)
        options = SyncOptions(allow_rewritten=allow_rewritten, discard_changes=discard_changes)
        try:
            target, decision = await _look(project, options)
        except SourceError as error:
            await record_source_failure(declared, request, error)
            raise
        await forget_source_failure(declared)
        if revision is not None:
            refuse_another_revision(environment, target, revision)
        log.info("%s: %s", environment, decision.reason)
        if decision.action is not SyncAction.TAKE:
            if decision.action is SyncAction.NOTHING:
                await _set_checkout_right(declared, target)
            await report_unreported(declared)
            return _nothing_done(environment, decision)
        if not now and (waits := _waits_for_window(declared, target, asked_by)) is not None:
            return _nothing_done(environment, waits)
        return await _update(declared, target, request, override)


async def _lift(environment: Environment, *, unpin: bool, revision: str | None) -> None:
    if unpin:
        before = await source_state(environment)
        log.info("%s", f"pin of {environment.name} lifted" if before.pin else f"{environment.name} is not pinned")
        await change_state(environment, lambda state: replace(state, pin=None))
    if revision:
        await change_state(environment, lambda state: lift_revisions(state, environment.name, revision)[0])
        log.info("revision %s of %s may be taken again", revision, environment.name)


async def _look(project: Project, options: SyncOptions) -> tuple[SourceRevision, SyncDecision]:
    environment = project.environment
    running = await running_revision(environment)
    fetched = await fetch_source(project, running.revision if running else None)
    state = await source_state(environment)
    meant_to_run = await is_meant_to_run(environment.name)
    return fetched.target, decide(environment.name, fetched, running, state, options, meant_to_run=meant_to_run)


def _waits_for_window(environment: Environment, target: SourceRevision, asked_by: str | None) -> SyncDecision | None:
    """Why a schedule or a push takes no revision now; None where updates may begin.

    Raises:
        BadInputError: It is outside of the update windows, and a person on this machine asks.
    """
    outside = outside_of_windows(environment.name, environment.update, datetime.now(UTC))
    if outside is None:
        return None
    asker, _ = requester(asked_by)
    if asker.startswith("person"):
        raise BadInputError(outside, advice="wait for it, or sync now with --now.")
    log.info("%s", outside)
    return SyncDecision(action=SyncAction.WAITING, reason=f"{target} waits: {outside.rstrip(';')}")


async def _set_checkout_right(environment: Environment, running: SourceRevision) -> None:
    """Let the checkout be that of the running revision: a process that was killed may have left another."""
    current = await current_revision(environment)
    if current is None or current.revision != running.revision:
        await switch_checkout(environment, running)


def _nothing_done(environment: str, decision: SyncDecision) -> OperationResult:
    reason = decision.reason
    return OperationResult(success=True, deployment_id="", environment=environment, reason=reason, took_seconds=0.0)


@dataclass(slots=True, kw_only=True)
class Sync(Update):
    """An update to a revision; without a target, to that of the interrupted operation that is taken up again."""

    declared: Environment
    """The environment as it was before the checkout changed."""
    target: SourceRevision | None = None
    revision_before: SourceRevision | None = None


async def _update(
    environment: Environment, target: SourceRevision | None, request: OperationRequest, override_gate: str | None
) -> OperationResult | State[Any]:
    run = Sync(declared=environment, target=target, options=OF_UPDATE, override_gate=override_gate)
    back, recorder = partial(go_back, run, SYNC_BACK), None
    try:
        async with record_operation(
            OperationType.START, environment.name, request, on_failure=escalate, rollback=back
        ) as recorder:
            run.recorder = recorder
            await run_steps(run, SYNC)
    except BaseException as error:
        await report_result(environment, run.target, recorder, error)
        if isinstance(error, ValidationFailedError):
            return run.refusal(error)
        raise
    await report_result(environment, run.target, recorder, None)
    await remove_old_checkouts(run.project)
    return run.result()


async def choose_revision(sync: Sync) -> str:
    """Decide which revision is taken, and which one the checkout goes back to.

    Raises:
        BadInputError: The operation was interrupted before it had decided.
    """
    recorder, environment = sync.recorder, sync.declared
    if (detail := recorder.step_detail(TAKING)) is not None:
        revisions = json.loads(detail)
        sync.target = SourceRevision(**revisions["target"])
        sync.revision_before = SourceRevision(**revisions["before"]) if revisions["before"] else None
    elif sync.target is None:
        raise BadInputError(
            f"{recorder.deployment_id} had not begun to take a revision;", advice=f"use `roas sync {environment.name}`."
        )
    else:
        sync.revision_before = await running_revision(environment)
    target, before = sync.target, sync.revision_before
    sync.record.update = "all"
    sync.record.source = TakenRevision(**asdict(target), before=before.revision if before else "")
    return json.dumps({"target": asdict(target), "before": before and asdict(before)})


async def take_revision(sync: Sync) -> None:
    """Let the checkout be that of the revision, and load the environment from it.

    Raises:
        SourceError: It would lose data that the checkout has beside the revision's files.
    """
    recorder, environment, target = sync.recorder, sync.declared, _target(sync)
    await report_result(environment, target, recorder, None, pending=True)
    await switch_checkout(environment, target)
    # The files it was loaded with may have changed, and with them what must not be shown.
    recorder.opened = None
    application = await read_application(await recorder.open())
    await refuse_untracked_data(environment, application, target.revision)


async def note_revision(sync: Sync) -> None:
    """Note that the revision runs."""
    target = _target(sync)

    def note_taken(state: SourceState) -> SourceState:
        failed = {name: failure for name, failure in state.failed.items() if name != target.revision}
        return replace(state, failed=failed, tag_revisions=state.tag_revisions | {target.ref: target.revision})

    await change_state(sync.declared, note_taken)


SYNC: tuple[Step[Sync], ...] = (
    Step(TAKING, choose_revision, looks=True),
    Step("take the revision", take_revision, looks=True),
    *UPDATE,
    Step("note the revision", note_revision),
)
"""A sync that takes a revision."""


async def remember_failure(sync: Sync) -> None:
    """Remember that the revision failed; where it surely did by itself, no later sync takes it."""
    recorder, error, target = sync.recorder, sync.failure, _target(sync)
    reason = sync.record.reason or await recorder.without_secrets(error)
    surely = isinstance(error, StartFailedError | SourceError)
    now, deployment_id = datetime.now(UTC), recorder.deployment_id
    try:
        state = await change_state(
            sync.declared,
            lambda state: state_after_failure(state, target, reason, deployment_id, now, hold_back=surely),
        )
    except RoasError as trouble:
        log.warning("the revision that failed is not held back: %s", trouble)
        return
    if state.failed[target.revision].held_back:
        sync.record.revision_held_back = target.revision
        log.warning("revision %s is held back until a user lifts it", target)


async def keep_failed_revision(sync: Sync) -> None:
    """Keep the failed revision as an unproven release. It is held back as a whole, so no image is by itself."""

    async def tried() -> Release:
        reason = f"failed: {sync.record.reason or type(sync.failure).__name__}"
        return replace(await tried_release(sync), digests={}, proven=False, reason=reason)

    await keep_failed_release(sync.recorder, tried)


async def put_checkout_back(sync: Sync) -> None:
    """Let the checkout be the earlier one, so that mounted files and variables are those of the release."""
    environment, before = sync.declared, sync.revision_before
    current = await current_revision(environment)
    if before is not None and current is not None and current.revision != before.revision:
        await switch_checkout(environment, before)
        if sync.recorder.opened is not None:
            sync.recorder.opened.refresh()
        sync.record.checkout_back_at = before.revision


def _is_of_revision(sync: Sync) -> bool:
    return sync.target is not None and isinstance(sync.failure, _OF_THE_REVISION)


def _target(sync: Sync) -> SourceRevision:
    if sync.target is None:
        raise BadInputError(f"No revision is chosen for {sync.recorder.name}.")
    return sync.target


SYNC_BACK: tuple[Step[Sync], ...] = (
    Step("remember the failure", remember_failure, when=_is_of_revision),
    Step("keep the failed release", keep_failed_revision, when=may_hold_back),
    WARN_OF_DATA,
    NAMES_BACK,
    TURN_BACK,
    SETTLE_BACK,
    # What is mounted and which values count is the release's own again before its containers are.
    Step("put the checkout back", put_checkout_back, even_so=True),
    CONTAINERS_BACK,
    CHECK_BACK,
)
"""How a sync goes back."""
