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
from core.deployment.rehearsal import Document, isolate, verdict_of, volume_of, with_only
from core.deployment.update import narrow_plan, update_scope
from core.storage.snapshots import choose_snapshot, proof_of
from flows.common import parameters
from flows.execution.hook_checks import run_of_hook
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from flows.storage.snapshot import snapshot as take_snapshot
from models.compose import OF_UPDATE, Application
from models.containers import replicas
from models.failures import BadInputError, ComposeError, NotFoundError, RoasError, StartFailedError
from models.hooks import Hook
from models.operations import OperationType
from models.rehearsals import UpdateRehearsal
from models.results import OperationResult
from models.snapshots import DataSnapshot, FilesData, SavedData
from tasks.deployment.application_copy import (
    CopiedProject,
    begin_copy,
    create_copy,
    end_copy,
    fetch_for_copy,
    load_copy,
    look_at_paths,
    start_copy,
)
from tasks.deployment.hooks import HookOrder, run_hook
from tasks.deployment.lease import alone_in
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

    Where it would not, each change alone is tried: those that fail are the culprits, unless the version that runs fails
    in the copy too. Production is left alone and not held; the copy is removed at the end.

    Raises:
        StartFailedError: The update would fail, or the version that runs fails in the copy too; with the culprits.
        BadInputError: Another rehearsal goes on, or this one was cut off.
        RoasError: The copy cannot be made.
    """
    if snapshot:
        await take_snapshot(environment, asked_by=asked_by)
    request = OperationRequest(asked_by, deployment_id, compose_files)
    async with record_operation(OperationType.HEALTH_CHECK, environment, request) as recorder:
        project = await recorder.open()
        with alone_in(environment, "rehearsal") as other:
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


@dataclass(slots=True, kw_only=True)
class _Rehearsal:
    """A rehearsal while it runs: the documents of the copy with what runs `now` and with all that is `new`.

    With `data` is the key of the copy's volume where it is files.
    """

    recorder: OperationRecorder
    application: Application
    now: Document
    new: Document
    lacks: list[str]
    data: Sequence[tuple[SavedData, str]] = ()
    snapshot: DataSnapshot | None = None
    took: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    memory_bytes: int = 0

    async def attempt(self, only: Collection[str]) -> str:
        """Try these changes in a copy that has nothing of an earlier try; why it failed, empty where it works."""
        await begin_copy(self.recorder.project)
        self.notes = [*self.lacks]
        try:
            await self._attempt(only)
        except (StartFailedError, ComposeError) as error:
            return self.recorder.redactor.text(error.what.rstrip(".;"))
        return ""

    async def _attempt(self, only: Collection[str]) -> None:
        hooks, known = self.recorder.environment.hooks, {None, *self.now["services"], *only}
        changed, runs = self._with(only), self._with(() if self.now["services"] else only)
        # Migrations belong to the update. What comes with one has no earlier version that could be run without it.
        before = [hook for hook in hooks.before if only and hook.service in known]
        if before or self.data:
            application = await create_copy(runs)
            if self.snapshot is not None:
                await load_copy(runs, application, self.data, self.snapshot)
            for hook in before:
                await start_copy(runs, application, self._needed(hook))
                await self._hook(self._with({hook.service} & set(only)), hook, BEFORE)
        self.took = await start_copy(changed, await create_copy(changed))
        samples = await make_async(changed.engine.statistics.samples)(changed.environment.project)
        self.memory_bytes = sum(sample.memory_bytes for sample in samples)
        for hook in hooks.after:
            if hook.service in known:
                await self._hook(changed, hook, AFTER)

    def _with(self, only: Collection[str | None]) -> CopiedProject:
        return CopiedProject(self.recorder.project, with_only(self.now, self.new, only))

    def _needed(self, hook: Hook) -> set[str]:
        needed = set(reachable(hook.concerns, needs_in(self.application))) if hook.concerns is not None else set()
        return needed | ({hook.exec.service} if hook.exec is not None else set())

    async def _hook(self, copy: CopiedProject, hook: Hook, when: str) -> None:
        does, began_at, began = self.recorder.redactor.text(describe(hook)), datetime.now(UTC), time.monotonic()
        if hook.concerns is None or hook.canary is not None:
            self.notes.append(f"hook {hook.name} ({does}) is left out: it belongs to production")
            return
        order = HookOrder(hook=hook, deployment_id=self.recorder.deployment_id, application=self.application)
        outcome = await run_hook(copy, order)
        run = run_of_hook(hook, when, does, began_at, began, outcome)
        sentence = failure(run, decisive_line(hook.concerns, outcome))
        self.notes.append(f"hook {hook.name} ended well after {run.took_seconds:.1f} s" if run.ok else sentence)
        if not run.ok and not run.warns:
            raise StartFailedError(sentence, service=hook.concerns)


async def _rehearse(recorder: OperationRecorder, services: list[str] | None, *, held_back: bool) -> UpdateRehearsal:
    project, images, hooks = recorder.project, recorder.project.engine.images, recorder.environment.hooks
    one_off = {hook.service for hook in (*hooks.before, *hooks.after) if hook.service is not None}
    active = (await read_application(project)).services.keys()
    whole = Project(project.environment.model_copy(update={"profiles": ("*",)})).compose()
    document, everything = await make_async(whole.filled)(), await make_async(whole.render)()
    chosen = {name: declared for name, declared in everything.services.items() if name in active or name in one_off}
    application = replace(everything, services=chosen)
    options = replace(OF_UPDATE, services=frozenset(services) | (one_off - active) if services else None)
    plan = (await plan_start(project, application, None, options)).plan
    scope = update_scope(application, plan, services) if services else frozenset(active)
    fetches = {fetch.service: fetch for fetch in plan.fetches if held_back or not fetch.held_back}
    new = await fetch_for_copy(project, document, application, fetches)
    states = await inspect_application(project)
    # What hooks alone run has no container, and ran the image that its name refers to.
    ran = {
        name: found[0].image_id if (found := replicas(states, name)) else "" if name in active else declared.image
        for name, declared in chosen.items()
    }
    facts = await make_async(images.inspect_all)(filter(None, ran.values()))
    now = {name: fact for name, image in ran.items() if (fact := facts.get(image)) is not None}
    moved = {name for name in fetches.keys() & new.keys() if name not in now or now[name].content != new[name].content}
    lines = {line.service for line in drift(narrow_plan(plan, scope))}
    changes = tuple(sorted(moved & (scope | one_off - active) | lines & active))
    if not changes:
        return UpdateRehearsal(passed=True, verdict="nothing would change")
    ids = [{name: fact.image_id for name, fact in found.items()} for found in (now, new)]
    coming = {fact.image_id: fact.size_bytes for fact in new.values() if fact.image_id not in ids[0].values()}
    run = await _prepare(recorder, document, application, *ids)
    problem = await run.attempt(changes)
    result = UpdateRehearsal(
        passed=not problem,
        verdict=f"it would work: {', '.join(changes)}",
        changes=changes,
        took_seconds=run.took,
        snapshot=f"{run.snapshot.snapshot_id}, {proof_of(run.snapshot)}" if run.snapshot is not None else "",
        notes=tuple(run.notes),
        image_bytes=sum(coming.values()),
        data_bytes=run.snapshot.bytes if run.snapshot is not None else 0,
        memory_bytes=run.memory_bytes,
    )
    if not problem:
        return result
    log.error("rehearsal: %s", problem)
    tried: dict[str, str] = {}
    for name in changes if len(changes) > 1 else ():
        tried[name] = await run.attempt((name,))
        log.info("rehearsal: %s alone %s", name, "fails" if tried[name] else "works")
    # Where one change works alone, what runs does, too.
    as_before = await run.attempt(()) if now and all(tried.values()) else ""
    verdict, culprits = verdict_of(problem, tried, as_before)
    return result.model_copy(update={"verdict": verdict, "tried": tried, "culprits": culprits})


async def _prepare(
    recorder: OperationRecorder, document: Document, application: Application, now: dict[str, str], new: dict[str, str]
) -> _Rehearsal:
    """Choose the data, and decide what the copies are given."""
    project, environment = recorder.project, recorder.environment
    declared, snapshot = environment.data.save if environment.data is not None else (), None
    good = [found for found in await snapshots_of(environment.name) if found.rehearsal is None or found.rehearsal.ok]
    with suppress(NotFoundError):
        snapshot = choose_snapshot(good, None, environment.name) if declared else None
    data = parts_declared(environment, snapshot) if snapshot is not None else []
    saved = {part.volume if isinstance(part, FilesData) else part.service for part in declared}
    earlier = document
    with suppress(RoasError, IndexError):
        release = (await proven_releases(environment.name))[0]
        filled = await make_async(project.compose(await release_document(project, release)).filled)()
        earlier = filled | {"services": document["services"] | filled["services"]}
    mountable = await look_at_paths(project, document, earlier)
    (before, _), (after, lacks) = (
        isolate(
            whole | {"services": {name: body for name, body in whole["services"].items() if name in names}},
            *(environment.project, ids, mountable, saved),
        )
        for whole, ids, names in ((earlier, now, now), (document, new, application.services))
    )
    keys = [volume_of(part.volume, application) if isinstance(part, FilesData) else "" for part in data]
    return _Rehearsal(
        recorder=recorder,
        application=application,
        now=before,
        new=after,
        lacks=[*lacks, "there is no snapshot, so volumes are empty"]
        if snapshot is None and after["volumes"]
        else lacks,
        data=tuple(zip(data, keys, strict=True)),
        snapshot=snapshot,
    )
