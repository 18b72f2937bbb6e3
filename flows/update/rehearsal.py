"""Rehearse an update: try the new images, configuration, hooks and probes in a copy beside production."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.common.dependencies import reachable
from core.deployment.hooks import AFTER, BEFORE, describe, failure
from core.deployment.plan import drift, needs_in
from core.deployment.rehearsal import (
    ApplicationCopy,
    Document,
    bound_paths,
    isolate,
    key_of_volume,
    verdict_of,
    with_only,
)
from core.deployment.update import narrow_plan, update_scope
from core.storage.snapshots import proof_of, snapshot_to_try
from flows.common import parameters
from flows.execution.hook_checks import run_of_hook
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from flows.storage.snapshot import snapshot as take_snapshot
from models.compose import OF_UPDATE, Application, ImageFact
from models.containers import replicas
from models.failures import BadInputError, RoasError, StartFailedError
from models.hooks import Hook
from models.operations import OperationType
from models.rehearsals import RehearsedService, UpdateRehearsal
from models.results import OperationResult
from models.snapshots import DATA_WITH_LOGIN, DataSnapshot, FilesData, SavedData
from tasks.deployment.application_copy import (
    CopiedProject,
    begin_copy,
    create_copy,
    empty_copy,
    end_copy,
    fetch_for_copy,
    hook_fetches,
    load_copy,
    look_at_paths,
    memory_of_copy,
    name_for_copy,
    read_whole,
    rehearsing_alone,
    start_copy,
)
from tasks.deployment.hooks import HookOrder, proven_hook_images, run_hook
from tasks.deployment.release import release_document
from tasks.deployment.services import inspect_application, plan_start, proven_releases, read_application
from tasks.errors.hook_evidence import decisive_line
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import make_async
from tasks.storage.snapshots import parts_declared, snapshots_of

log = logging.getLogger("roas")


@flow(name="rehearse-update", flow_run_name="rehearse an update of {environment}")
async def rehearse_update(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    services: list[str] | None = Field(None, description="Only these services; without them all."),
    snapshot: bool = Field(False, description="Save the data now, and load that; else the newest snapshot is loaded."),
    held_back: bool = Field(False, description="Also with the images that are held back since they failed."),
    asked_by: str | None = parameters.ASKED_BY,
    deployment_id: str | None = parameters.DEPLOYMENT_ID,
    compose_files: parameters.ComposeFiles = parameters.COMPOSE_FILES,
) -> OperationResult:
    """Do in an isolated copy of the application what an update would do, and record whether it would work.

    Where it would not, and the version that runs works in the copy, each change alone is tried: those that fail are the
    culprits. Production is left alone and not held; the copy is removed at the end.

    Raises:
        StartFailedError: The update would fail, or the version that runs fails in the copy too; with the culprits.
        BadInputError: Another rehearsal goes on, or this one was cut off.
        RoasError: The copy cannot be made.
    """
    request = OperationRequest(asked_by, deployment_id, compose_files)
    if snapshot:
        await take_snapshot(environment, asked_by=asked_by)
    async with record_operation(OperationType.HEALTH_CHECK, environment, request) as recorder:
        project = await recorder.open()
        with rehearsing_alone(environment) as other:
            if other is not None:
                raise BadInputError(f"An update of {environment} is rehearsed by {other};", advice="wait for its end.")
            try:
                await begin_copy(project)
                if recorder.interrupted:
                    raise BadInputError("A rehearsal was cut off, and its copy is removed;", advice="begin another.")
                rehearsal = await _rehearse(recorder, services, held_back=held_back)
            finally:
                await end_copy(project)
        recorder.record.rehearsal = rehearsal
        log.info("rehearsal: %s", rehearsal.verdict)
        if not rehearsal.passed:
            blamed = next(iter(rehearsal.culprits or rehearsal.changes))
            raise StartFailedError(f"{rehearsal.verdict[:1].upper()}{rehearsal.verdict[1:]}.", service=blamed)
    return recorder.result(rehearsal.verdict)


@dataclass(slots=True)
class _Trial:
    """One try of some changes in the copy: what came up, and why it failed, empty where it works."""

    services: tuple[RehearsedService, ...] = ()
    hooks: list[str] = field(default_factory=list)
    memory: int = 0
    problem: str = ""


@dataclass(slots=True, kw_only=True)
class _Rehearsal:
    """What a rehearsal tries: the copies of what runs `now` and of the `new` version, and the data for both."""

    recorder: OperationRecorder
    project: Project
    everything: Application
    now: ApplicationCopy
    new: ApplicationCopy
    images: tuple[dict[str, str], dict[str, str]]
    data: Sequence[tuple[SavedData, str]] = ()
    snapshot: DataSnapshot | None = None

    async def attempt(self, only: Collection[str]) -> _Trial:
        """Try these changes in a copy that has nothing of an earlier try."""
        trial = _Trial()
        await empty_copy(self.project, but_images=True)
        for suffix, images in zip(("now", "new"), self.images, strict=True):
            await name_for_copy(self.project, images, suffix)
        try:
            await self._attempt(trial, only)
        except StartFailedError as error:
            trial.problem = error.what.rstrip(".;")
        return trial

    async def _attempt(self, trial: _Trial, only: Collection[str]) -> None:
        hooks, since = self.project.environment.hooks, datetime.now(UTC)
        changed, runs = self._with(only), self._with(() if self.now.document["services"] else only)
        folders = {**self.now.folders, **self.new.folders}
        if hooks.before or self.data or folders:
            application = await create_copy(runs)
            if self.data or folders:
                await load_copy(runs, application, self.data, self.snapshot, folders)
            for hook in self._hooks(hooks.before, only):
                trial.services = await start_copy(runs, application, since, self._needed(hook, application))
                _check(trial.services)
                await self._hook(self._with({hook.service} & set(only)), hook, BEFORE, trial)
        application = await create_copy(changed)
        trial.services = await start_copy(changed, application, datetime.now(UTC))
        _check(trial.services)
        trial.memory = await memory_of_copy(changed)
        for hook in self._hooks(hooks.after, only):
            await self._hook(changed, hook, AFTER, trial)

    def _with(self, only: Collection[str | None]) -> CopiedProject:
        return CopiedProject(self.project, with_only(self.now.document, self.new.document, only))

    def _hooks(self, hooks: Sequence[Hook], only: Collection[str]) -> list[Hook]:
        """The hooks of a try: a program that comes with the update has no earlier version to be run."""
        known = {None, *self.now.document["services"], *only}
        return [hook for hook in hooks if hook.service in known]

    def _needed(self, hook: Hook, application: Application) -> set[str]:
        """The services that have to run for a hook."""
        needs = needs_in(self.everything)
        if hook.exec is not None:
            return {hook.exec.service, *reachable(hook.exec.service, needs)}
        return set(reachable(hook.service, needs)) & application.services.keys() if hook.service is not None else set()

    async def _hook(self, copy: CopiedProject, hook: Hook, when: str, trial: _Trial) -> None:
        does, began_at, began = self.recorder.redactor.text(describe(hook)), datetime.now(UTC), time.monotonic()
        if hook.service is None and hook.exec is None:
            trial.hooks.append(f"hook {hook.name} ({does}) is left out: it runs outside of the copy")
            return
        order = HookOrder(hook=hook, deployment_id=self.recorder.deployment_id, application=self.everything)
        outcome = await run_hook(copy, order)
        run = run_of_hook(hook, when, does, began_at, began, outcome)
        sentence = failure(run, decisive_line(hook.concerns or hook.name, outcome))
        trial.hooks.append(f"hook {hook.name} ended well after {run.took_seconds:.1f} s" if run.ok else sentence)
        if not run.ok and not run.warns:
            raise StartFailedError(sentence, service=hook.concerns)


def _check(services: Sequence[RehearsedService]) -> None:
    for failed in (service for service in services if not service.ok):
        line = f'; its log says "{failed.line}"' if failed.line else ""
        raise StartFailedError(f"{failed.service} did not start: {failed.reason}{line}", service=failed.service)


async def _rehearse(recorder: OperationRecorder, services: list[str] | None, *, held_back: bool) -> UpdateRehearsal:
    project, environment = recorder.project, recorder.environment
    application = await read_application(project)
    options = replace(OF_UPDATE, services=frozenset(services) if services else None)
    plan = (await plan_start(project, application, None, options)).plan
    scope = update_scope(application, plan, services) if services else frozenset(application.services)
    plan = narrow_plan(plan, scope)
    whole, everything = await read_whole(project)
    hooks = (*environment.hooks.before, *environment.hooks.after)
    beside = {hook.service for hook in hooks if hook.service is not None} - application.services.keys()
    wanted = {name: declared for name, declared in everything.services.items() if name in {*application.services, *beside}}
    fetches = {fetch.service: fetch for fetch in plan.fetches if fetch.service in scope and (held_back or not fetch.held_back)}
    fetches |= await hook_fetches(project, {name: wanted[name] for name in beside if name in wanted})
    new = await fetch_for_copy(project, whole, wanted, fetches)
    states = [state for state in await inspect_application(project) if not state.one_off]
    now = {name: found[0].image_id for name in wanted if (found := replicas(states, name))}
    now |= {name: image for name, image in (await proven_hook_images(environment.name)).items() if name in beside}
    there = await make_async(project.engine.images.inspect_all)(now.values())
    now = {name: image for name, image in now.items() if there[image] is not None}
    changes = tuple(
        sorted(
            {line.service for line in drift(plan)}
            | {name for name in fetches if name in new and _differs(new[name], there.get(now.get(name, "")))}
        )
    )
    if not changes:
        return UpdateRehearsal(passed=True, verdict="nothing would change")
    run = await _prepare(recorder, whole, everything, now, {name: fact.image_id for name, fact in new.items()})
    trial, tried, culprits, as_before = await run.attempt(changes), dict[str, str](), (), ""
    verdict = f"it would work: {', '.join(changes)}"
    if trial.problem:
        log.error("rehearsal: %s; trying the version that runs, and each change alone", trial.problem)
        as_before = (await run.attempt(())).problem if now else ""
        for name in changes if len(changes) > 1 and not as_before else ():
            tried[name] = (await run.attempt((name,))).problem
            log.info("rehearsal: %s alone %s", name, "fails" if tried[name] else "works")
        verdict, culprits = verdict_of(trial.problem, tried, as_before)
    return UpdateRehearsal(
        passed=not trial.problem,
        verdict=recorder.redactor.text(verdict),
        changes=changes,
        services=trial.services,
        hooks=tuple(trial.hooks),
        tried=tried,
        culprits=culprits,
        snapshot=f"{run.snapshot.snapshot_id}, {proof_of(run.snapshot)}" if run.snapshot is not None else "",
        notes=tuple(dict.fromkeys(run.new.notes)),
        image_bytes=sum(new[name].size_bytes for name in changes if name in new),
        data_bytes=run.snapshot.bytes if run.snapshot is not None else 0,
        memory_bytes=trial.memory,
    )


def _differs(new: ImageFact, now: ImageFact | None) -> bool:
    return now is None or new.content != now.content


async def _prepare(
    recorder: OperationRecorder, whole: Document, everything: Application, now: dict[str, str], new: dict[str, str]
) -> _Rehearsal:
    """Choose the data, and decide what the copies are given."""
    project, environment, data = recorder.project, recorder.environment, list[SavedData]()
    saved = snapshot_to_try(await snapshots_of(environment.name)) if environment.data is not None else None
    if saved is not None:
        data = parts_declared(environment, saved)
    declared = environment.data.save if environment.data is not None else ()
    restored = {part.service for part in declared if isinstance(part, DATA_WITH_LOGIN)}
    restored |= {part.volume for part in declared if isinstance(part, FilesData)}
    earlier = whole
    with suppress(RoasError, IndexError):
        release = (await proven_releases(environment.name))[0]
        filled = await make_async(project.compose(await release_document(project, release)).filled)()
        earlier = filled | {"services": whole["services"] | filled["services"]}
    paths = await look_at_paths(project, bound_paths(whole) | bound_paths(earlier))
    names = [await name_for_copy(project, images, suffix) for images, suffix in ((now, "now"), (new, "new"))]
    earlier = earlier | {"services": {name: body for name, body in earlier["services"].items() if name in now}}
    wanted = whole | {"services": {name: body for name, body in whole["services"].items() if name in {**new, **now}}}
    run = _Rehearsal(
        recorder=recorder,
        project=project,
        everything=everything,
        now=isolate(earlier, environment.project, names[0], paths, restored),
        new=isolate(wanted, environment.project, names[1], paths, restored),
        images=(now, new),
        data=[(part, key_of_volume(part, everything) if isinstance(part, FilesData) else "") for part in data],
        snapshot=saved,
    )
    declares = run.new.document["services"]
    loaded = {mount.get("source") for name in restored & declares.keys() for mount in declares[name]["volumes"]}
    unsaved = sorted(run.new.document["volumes"].keys() - {key for _, key in run.data} - loaded - run.new.folders.keys())
    run.new.notes += ["there is no snapshot, so the copy has no data"] if saved is None else []
    run.new.notes += [f"empty volumes: {', '.join(unsaved)}"] if unsaved else []
    return run
