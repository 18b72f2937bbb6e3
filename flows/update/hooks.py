"""Run the hooks of an update in their order, record each, and end the update where one fails."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from core.deployment.hooks import (
    AFTER,
    BEFORE,
    AfterInterruption,
    data_warning,
    decide_after_interruption,
    describe,
    how_it_ended,
)
from core.deployment.update import hook_images
from flows.execution.hook_checks import run_of_hook
from flows.execution.interrupted_fetch import FETCHING_FOR_HOOKS
from flows.update.canary import observe
from flows.update.context import Update
from flows.update.held_back import keep_failed_release
from models.compose import Application, PlannedAction, PlannedService, ServiceDeclaration
from models.failures import HookError, StartFailedError
from models.hooks import Hook
from models.operations import DATA_SAVED, HOOK_BEGUN
from models.operations.record import HookRun, OperationRecord, SnapshotRecord
from models.records import Release
from tasks.deployment.hooks import (
    HookOrder,
    HookOutcome,
    fetch_hook_images,
    hook_container,
    kill_left_command,
    proven_hook_images,
    read_all_services,
    run_hook,
)
from tasks.deployment.images import images_named
from tasks.deployment.release import new_digests
from tasks.errors.hook_evidence import keep_output
from tasks.recovery.notify import HOOK_FAILED, announce
from tasks.runtime.identifiers import new_release_id

log = logging.getLogger("roas")

ENDED = "run as a hook"
"""Step of an update: the hook of this name has ended, and the update went on; its detail is the run."""

FAILED = "failed as a hook"
"""Step of an update: the hook of this name has failed, and the update with it; its detail is the run."""


async def name_hook_images(update: Update) -> str | None:
    """Decide which images the names refer to again that are fetched for hooks alone."""
    if update.recorder.step_detail(FETCHING_FOR_HOOKS) is not None:
        return None
    _, hook_services = await _hook_services(update)
    if not hook_services:
        return None
    names = {service.image for service in hook_services.values()}
    # A name without an image does not exist.
    images = dict.fromkeys(sorted(names), "") | await images_named(update.project, names)
    update.keep_names(images)
    return json.dumps(images)


async def _hook_services(update: Update) -> tuple[Application, dict[str, ServiceDeclaration]]:
    """All services of all profiles, and of these the ones that hooks alone run, by name."""
    application, hooks = update.application, update.environment.hooks
    one_off = {hook.service for hook in (*hooks.before, *hooks.after) if hook.service is not None}
    if not one_off:
        return application, {}
    everything = await read_all_services(update.project)
    application_images = {service.image for service in application.services.values()}
    return everything, {
        name: service
        for name, service in everything.services.items()
        if name in one_off and service.image not in application_images
    }


async def fetch_for_hooks(update: Update) -> Update:
    """Pull and build the images of one-off containers, while nothing is touched.

    Returns the update with the services of these containers among those that it creates, for who judges its images.
    The images that they had in the last update that succeeded are among those of the release.

    Raises:
        ComposeError: One cannot be had.
    """
    application, hooks = update.application, update.environment.hooks
    one_off = {hook.service: hook.name for hook in (*hooks.before, *hooks.after) if hook.service is not None}
    everything, hook_services = await _hook_services(update)
    if not hook_services:
        return update
    await fetch_hook_images(update.project, everything, sorted(hook_services))
    now = await images_named(update.project, [service.image for service in hook_services.values()])
    update.record.hook_images = {
        name: now[service.image] for name, service in hook_services.items() if service.image in now
    }
    proven = await proven_hook_images(update.environment.name)
    release = update.release
    lines = [
        PlannedService(service=name, action=PlannedAction.CREATE, because=f"hook {one_off[name]} runs it")
        for name in sorted(hook_services)
        if name not in application.services
    ]
    with_hooks = copy(update)
    with_hooks.application = replace(application, services={**application.services, **hook_services})
    with_hooks.plan = replace(update.plan, services=(*update.plan.services, *lines))
    with_hooks.release = None if release is None else replace(release, images={**proven, **release.images})
    return with_hooks


async def run_before_hooks(update: Update) -> None:
    """Run the hooks before containers change; one that fails holds the new images back.

    Raises:
        StartFailedError: One failed.
        HookError: One could not be run, or was interrupted and may have done half its work.
    """
    hooks = update.environment.hooks
    if not hooks.before:
        return
    execution = _HookExecution(update, BEFORE)
    try:
        await execution.run(hooks.before)
    except StartFailedError as error:
        await _hold_new_images_back(update, execution, error)
        raise


async def run_after_hooks(update: Update) -> None:
    """Run the hooks after all services are proven.

    Raises:
        StartFailedError: One failed, or the canary found the new release worse than usual.
        HookError: One could not be run, or was interrupted and may have done half its work.
    """
    if update.environment.hooks.after:
        await _HookExecution(update, AFTER).run(update.environment.hooks.after)


async def recall_data(update: Update) -> None:
    """Put into the record what an interrupted update did to data, where only its rollback goes on."""
    recorder, record = update.recorder, update.record
    if saved := recorder.step_detail(DATA_SAVED):
        record.snapshots = (SnapshotRecord(id=saved),)
    ended = [HookRun.model_validate_json(step.detail) for step in recorder.steps if step.step in (ENDED, FAILED)]
    before = {hook.name for hook in update.environment.hooks.before}
    begun = [step.service for step in recorder.steps if step.step == HOOK_BEGUN and step.service in before]
    if begun:
        record.hooks, record.hooks_begun = tuple(ended), tuple(name for name in begun if name)
        record.data = data_warning(ended, record.hooks_begun, record.snapshots)


@dataclass(slots=True)
class _HookExecution:
    """The hooks of one moment of an update, while they run."""

    update: Update
    when: str
    application: Application | None = None
    runs: list[HookRun] = field(default_factory=list)
    failed: Hook | None = None

    async def run(self, hooks: Sequence[Hook]) -> None:
        recorder = self.update.recorder
        pending = [hook for hook in hooks if recorder.step_detail(ENDED, hook.name) is None]
        if any(hook.service is not None for hook in pending):
            self.application = await read_all_services(self.update.project)
        for hook in hooks:
            detail = recorder.step_detail(ENDED, hook.name)
            if detail is not None:
                self._record(HookRun.model_validate_json(detail))
                continue
            await self._run(hook)

    async def _run(self, hook: Hook) -> None:
        recorder, environment = self.update.recorder, self.update.environment
        does = recorder.redactor.text(describe(hook))
        begun = recorder.step_detail(HOOK_BEGUN, hook.name) is not None
        there = await hook_container(self.update.project, hook, recorder.deployment_id) if begun else None
        decision = decide_after_interruption(hook, begun=begun, container_there=there is not None)
        if begun:
            await kill_left_command(environment, hook, recorder.deployment_id)
        if (failed := recorder.step_detail(FAILED, hook.name)) is not None:
            self._begin(hook.name)
            earlier_run = HookRun.model_validate_json(failed)
            self._record(earlier_run)
            raise self._failure(hook, earlier_run)
        if decision is AfterInterruption.REFUSE:
            self._begin(hook.name)
            raise HookError(
                f"Hook {hook.name} ({does}) was interrupted: the process that ran it is gone, and whether it finished "
                "is not known;",
                advice=f"set again: true for hook {hook.name} if it may be run twice, then update again.",
            )
        log.info("hook %s %s: %s", hook.name, "goes on" if begun else "begins", does)
        if not begun:
            await recorder.step(HOOK_BEGUN, hook.name)
        self._begin(hook.name)
        began_at, began = datetime.now(UTC), time.monotonic()
        if hook.canary is not None:
            verdict = await observe(self.update, hook.canary)
            reason = recorder.redactor.text(verdict.why)
            outcome = HookOutcome(exit_code=0, output="", problem="" if verdict.passed else reason)
            run = run_of_hook(hook, self.when, does, began_at, began, outcome)
            sentence = f"hook {hook.name} ({does}): {reason}"
            run = run.model_copy(update={"service": verdict.service, "exit_code": None, "sentence": sentence})
        else:
            order = HookOrder(
                hook=hook, deployment_id=recorder.deployment_id, application=self.application or self.update.application
            )
            outcome = await run_hook(self.update.project, order)
            since = there.started_at if there is not None and there.started_at is not None else began_at
            run = run_of_hook(hook, self.when, does, since, began, outcome)
            run = await keep_output(environment, run, outcome, recorder.deployment_id)
        await self._end(hook, run, began=outcome.began)

    async def _end(self, hook: Hook, run: HookRun, *, began: bool) -> None:
        recorder = self.update.recorder
        self._record(run)
        message = f"hook {run.name} {how_it_ended(run)} after {run.took_seconds:.1f} s"
        if run.ok:
            log.info("%s", message)
        else:
            (log.warning if run.warns else log.error)("%s%s", run.sentence, "; the update goes on" if run.warns else "")
            announce(
                HOOK_FAILED, recorder.name, service=run.service, deployment_id=recorder.deployment_id, text=run.sentence
            )
        if run.ok or run.warns:
            await recorder.step(ENDED, hook.name, run.model_dump_json())
            return
        if not began:
            raise HookError(_sentence(run), advice=f"correct hook {hook.name} in the environment, or what it needs.")
        await recorder.step(FAILED, hook.name, run.model_dump_json())
        raise self._failure(hook, run)

    def _failure(self, hook: Hook, run: HookRun) -> StartFailedError:
        self.failed = hook
        advice = f"correct what the hook runs, then update again: roas update {self.update.environment.name}"
        return StartFailedError(_sentence(run), advice=advice, service=run.service)

    def _begin(self, name: str) -> None:
        if self.when == BEFORE:
            record = self.update.record
            record.hooks_begun = (*record.hooks_begun, name)
            self._warn_of_data(record)

    def _record(self, run: HookRun) -> None:
        record = self.update.record
        self.runs.append(run)
        record.hooks = (*record.hooks, run)
        if self.when == BEFORE:
            if run.name not in record.hooks_begun:
                record.hooks_begun = (*record.hooks_begun, run.name)
            self._warn_of_data(record)

    def _warn_of_data(self, record: OperationRecord) -> None:
        record.data = data_warning(self.runs, record.hooks_begun, record.snapshots)


def _sentence(run: HookRun) -> str:
    return f"{run.sentence[:1].upper()}{run.sentence[1:]}."


async def _images_to_blame(
    update: Update, execution: _HookExecution, before: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The new images that a failed hook stands for, by service, and how they were built."""
    environment, failed = update.environment, execution.failed
    alone = failed.concerns if failed is not None and failed.service is not None else None
    if alone is not None and alone not in update.application.services and execution.application is not None:
        proven = await proven_hook_images(environment.name)
        own_digests, builds = await new_digests(update.project, execution.application, [alone], proven)
        shared = execution.application.services[alone].image in {
            service.image for service in update.application.services.values()
        }
        if own_digests and not shared:
            return own_digests, builds
    digests, builds = await new_digests(update.project, update.application, update.changed_services, before)
    blamed = hook_images(update.application, execution.application, failed, sorted(digests))
    return {name: digests[name] for name in blamed}, builds


async def _hold_new_images_back(update: Update, execution: _HookExecution, error: StartFailedError) -> None:
    """Hold the new images back that a failed hook stands for: no container runs them, so nothing else would."""
    recorder, release = update.recorder, update.release

    async def tried() -> Release | None:
        if release is None:
            return None
        digests, builds = await _images_to_blame(update, execution, release.images)
        if not digests:
            return None
        now = datetime.now(UTC)
        return Release(
            release_id=new_release_id(now),
            environment=update.environment.name,
            deployment_id=recorder.deployment_id,
            created_at=now,
            digests=digests,
            files=builds,
            reason=f"{', '.join(digests)} failed: {await recorder.without_secrets(error)}",
        )

    await keep_failed_release(recorder, tried)
