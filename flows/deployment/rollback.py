"""Roll back: bring back a proven release and prove it again, or undo a start that failed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from prefect import flow
from pydantic import Field

from core.common.dependencies import dependencies_of
from core.deployment.hooks import proof_of_rollback, proves_data
from core.deployment.kept_files import copied_by, copies_by_service, copies_in_words, with_mounted_copies
from core.deployment.plan import paused_services, plan, refuse_paused, stop_waves
from core.deployment.release import (
    VALUES,
    Document,
    Leftovers,
    PreDeployState,
    PreviousContainer,
    beyond,
    differences,
    is_there,
    values_in_words,
)
from core.deployment.update import part_of
from flows.common import parameters
from flows.deployment.execute import keep_proven, start_in_order, verify
from flows.deployment.failure import escalate
from flows.deployment.half_restored import refuse_half_restored
from flows.deployment.hooks import check_after_rollback
from flows.deployment.overlap import replace_start_first, settle_replacements
from flows.deployment.rollback_data import RollbackOfData
from flows.deployment.source_pin import pinned_to
from flows.operation.recorder import ROLLING_BACK, OperationRecorder, OperationRequest, recorded
from models.compose import Application, PlannedAction, PlannedService
from models.containers import ContainerState
from models.environments import Environment
from models.failures import BadInputError, OperationCancelledError, ReleaseError, RoasError, StartFailedError
from models.health import HealthReport
from models.operations import FOUND, OperationType
from models.records import Release
from models.results import OperationResult, ServiceStart
from tasks.deployment.configuration import refuse_broken_proxies
from tasks.deployment.images import restore_names
from tasks.deployment.operations import record_changes
from tasks.deployment.overlap import decide_overlaps
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.release import (
    changed_variables,
    choose_release,
    copies_to_mount,
    fetch_release_images,
    held_back_since,
    inspect_release,
    may_have_changed_data,
    put_back,
    read_released,
    release_document,
    remove_containers,
    remove_networks,
    services_with_other_files,
)
from tasks.deployment.services import (
    PreDeploySnapshot,
    create_containers,
    find_leftovers,
    inspect_application,
    proven_releases,
    read_application,
    read_template,
    snapshot_containers,
    stop_containers,
)
from tasks.storage.snapshots import end_own_pauses

log = logging.getLogger("roas")

_WANTED = "release"
"""Step of a rollback: which release it brings back, also where it is taken up again."""
_RAN = "ran before"
"""Step of a rollback: the proven release that ran before it; without detail where none did."""


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
) -> OperationResult:
    """Bring an environment back to a proven release: the named one, or the newest that is not what runs now.

    It is recorded as a start of that release. Volumes are left alone, unless its data is put back too. Values of
    variables, secrets and configuration files that differ now are those that the release kept; what is on disk stays as
    it is, and the next start uses it. One that fails is undone like any start.

    Raises:
        NotFoundError: There is no such release, or no snapshot of its data.
        BadInputError: None differs from what runs.
        ReleaseError: The release cannot be applied any more.
        StartFailedError: A service of it did not come up; or it serves, and a hook that checks it failed.
        ValidationFailedError: A proxy that runs refuses its configuration, so it could not follow, and the release
            brings no other; nothing was touched.
    """
    undo = StartRollback()
    data = RollbackOfData(undo) if with_data else None
    request = OperationRequest(asked_by, deployment_id, compose_files, wait_seconds)
    async with recorded(
        OperationType.START, environment, request, on_failure=escalate, rollback=data or undo
    ) as recorder:
        declared = await recorder.load()
        await refuse_half_restored(recorder)
        await end_own_pauses(declared)
        application = await read_application(declared)
        if data is not None:
            await data.data.take_up(recorder, application)
        target = await _choose(recorder, undo, declared, application, release, with_data=with_data)
        async with pinned_to(recorder, declared, target, asked_by):
            recorder.refuse_to_go_forward()
            if data is not None:
                await data.put_data_back(recorder, declared, target)
            released, starts, health = await apply_release(recorder, declared, target)
        recorder.facts["health"] = str(health.overall)
        if data is not None:
            await data.data.settle(recorder)
        # It serves, as a person asked: from here on nothing goes back to what that person left.
        undo.armed = None
        runs = await check_after_rollback(recorder, declared, released)
        changed = data is None and await may_have_changed_data(declared, target)
        proof = proof_of_rollback(len(starts), declared.hooks, runs, data_changed=changed)
        proof = "; ".join((proof, *_kept_in_words(recorder)))
        proof = f"release {target.release_id} serves again: {proof}"
        if failed := next((run for run in runs if not run.ok and not run.warns), None):
            raise StartFailedError(
                f"{proof}.",
                advice=f"`roas snapshot list {environment}` shows the data that can be put back, and `roas releases "
                f"{environment}` the other releases.",
                service=failed.service,
            )
        await keep_proven(recorder, declared, released, target.compose, of=target)
    return recorder.result(proof, services=starts, health=health)


async def _choose(
    recorder: OperationRecorder,
    undo: StartRollback,
    environment: Environment,
    application: Application,
    release_id: str | None,
    *,
    with_data: bool,
) -> Release:
    """Choose the release, and record it with what is there, before anything is touched; taken up again it is the same.

    Raises:
        NotFoundError: There is no such release.
        BadInputError: None differs from what runs, which one was chosen is not on record, or a person paused a service.
        ReleaseError: Another operation failed with an image of it since it was chosen.
        ValidationFailedError: A proxy that runs refuses its configuration, and the release brings no other.
    """
    name, recorded_id, was = environment.name, recorder.reported(_WANTED), recorder.reported(FOUND)
    if was is not None and recorded_id is None:
        # A version before this one recorded it only with data.
        raise BadInputError(
            f"Which release {recorder.deployment_id} chose is not on record;",
            advice=f"`roas releases {name}` lists them, `roas rollback {name} RELEASE` takes one.",
        )
    snapshot, states, releases = await asyncio.gather(
        snapshot_containers(environment), inspect_application(environment), proven_releases(name)
    )
    # Proven would be what a person paused, and that is of another release.
    refuse_paused(states, set(application.services), "a rollback")
    if was is None or recorded_id is None:
        target = await choose_release(environment, recorded_id or release_id, with_data=with_data)
        if was is None:
            other_files = await services_with_other_files(environment, application, target)
            await refuse_broken_proxies(environment, application, recorder.deployment_id, other_files)
        ran = next((release for release in releases if is_there(release, states)), None)
        await recorder.step(_WANTED, detail=target.release_id)
        await recorder.step(_RAN, detail=ran.release_id if ran is not None else "")
        await recorder.step(FOUND, detail=undo.arm(application, snapshot, None))
    else:
        # The containers of before may be gone, but not the release that they were of.
        ran_id = recorder.reported(_RAN)
        ran = next((release for release in releases if release.release_id == ran_id), None)
        undo.arm(application, found_by(was), ran)
        target = await choose_release(environment, recorded_id)
    forward = recorded_id is not None and ROLLING_BACK not in recorder.done
    if forward and (why := await held_back_since(name, target, recorder.started_at)):
        raise ReleaseError(
            f"Release {target.release_id} is not brought back any further: {why}.",
            advice=f"`roas rollback {name} RELEASE` brings back another release, or this one all the same.",
        )
    changes = differences(releases[0], target) if releases else ()
    recorder.facts |= {"rollback_to": target.release_id, "changes": list(changes)}
    log.info("rolling back to release %s: %s", target.release_id, "; ".join(changes) or "it is the latest one")
    return target


class StartRollback:
    """Rolls back a start. Until the start is about to act there is nothing to roll back."""

    one_by_one = False
    """Compose replaces only what differs, and none of its dependants."""

    def __init__(self) -> None:
        self.armed: tuple[Application, PreDeploySnapshot, Release | None] | None = None
        self._names: dict[str, str] = {}

    def keep_names(self, names: Mapping[str, str]) -> None:
        """A rollback lets these names refer to these images again, so that the next start uses no failed one.

        A name without an image did not exist, and is removed. The first image that is kept of a name counts.
        """
        self._names = dict(names) | self._names

    async def restore(self, recorder: OperationRecorder, environment: Environment) -> None:
        """Give images their names back, and put into the recorder's facts which."""
        if self._names and (moved := await restore_names(environment, self._names)):
            recorder.facts["image_names_restored"] = moved

    def arm(self, application: Application, snapshot: PreDeploySnapshot, release: Release | None) -> str:
        """From now on a failure is rolled back. Returns the detail of the step `FOUND`, for `found_by`."""
        self.armed = (application, snapshot, release)
        return json.dumps(asdict(snapshot.before))

    async def before_release(self, recorder: OperationRecorder, environment: Environment) -> None:
        """Prepare what the last proven release needs beside its images; by default nothing.

        Raises:
            RoasError: It cannot be prepared.
        """

    async def __call__(self, recorder: OperationRecorder, error: Exception) -> None:
        """Roll back, and put into the recorder's facts how.

        Raises:
            RoasError: It could not be rolled back.
        """
        if self._names:
            await self.restore(recorder, await recorder.load())
        if self.armed is None:
            if self._names:
                recorder.facts["undone"] = "no container was touched"
            return
        environment, (application, snapshot, release) = await recorder.load(), self.armed
        await recorder.begin_rollback(error)
        for fact in ("kept_values", "mounted_copies"):
            recorder.facts.pop(fact, None)
        await settle_replacements(recorder, environment, application, back=True)
        if release is None:
            recorder.facts["undone"] = await _take_back(recorder, environment, application, snapshot)
        else:
            planned = recorder.facts.get("changes", [])
            recorder.facts["changes"] = await _changes(recorder, environment, application, release) or planned
            log.warning("rolling back to release %s, the last one that was proven", release.release_id)
            await self.before_release(recorder, environment)
            values = await _changed_values(recorder, environment, release)
            if values and await _has_all_replaced(environment, snapshot):
                # The containers of before have the values that they ran with, and the release would get today's.
                log.warning("%s changed since: the containers of before are put back as they were", ", ".join(values))
                copies = await copies_to_mount(environment, release)
                summary = await _take_back(recorder, environment, application, snapshot, copies)
                starts = await _prove_again(recorder, environment, application, snapshot)
                released, back = application, f"{summary}, with the values they had"
                container_states = await inspect_application(environment)
                if copied := copies_in_words(copies_by_service(container_states)):
                    recorder.facts["mounted_copies"] = copied
                if is_there(release, container_states):
                    recorder.facts["rolled_back_to"] = release.release_id
            else:
                released, starts, _ = await apply_release(recorder, environment, release, one_by_one=self.one_by_one)
                leftovers = beyond(await find_leftovers(environment, snapshot), released)
                await _remove(recorder, environment, application, leftovers.remove, leftovers.networks)
                recorder.facts["rolled_back_to"] = release.release_id
                back = f"rolled back to release {release.release_id}"
            # A person who ended the operation does not wait for hooks.
            ended = isinstance(error, OperationCancelledError)
            runs = None if ended else await check_after_rollback(recorder, environment, released)
            proof = proof_of_rollback(
                len(starts), environment.hooks, runs, data_changed=bool(recorder.facts.get("data"))
            )
            proof = "; ".join((proof, *_kept_in_words(recorder)))
            recorder.facts["undone"] = f"{back}: {proof}"
            recorder.facts["data_proven"] = proves_data(runs, recorder.facts.get("hooks_begun") or ())
        log.warning("rollback: %s", recorder.facts["undone"])


def _kept_in_words(recorder: OperationRecorder) -> tuple[str, ...]:
    """What is in use that the release kept, and that is otherwise now."""
    return tuple(recorder.facts[fact] for fact in ("kept_values", "mounted_copies") if fact in recorder.facts)


async def _changed_values(recorder: OperationRecorder, environment: Environment, release: Release) -> tuple[str, ...]:
    try:
        return await changed_variables(environment, release)
    except RoasError as error:
        log.warning("which variables changed is not known: %s", await recorder.without_secrets(error))
        return ()


async def _has_all_replaced(environment: Environment, snapshot: PreDeploySnapshot) -> bool:
    """Whether what ran before is still there, or can be made again as it was: that not after this process was killed.

    Where nothing was replaced, the release would replace what runs by containers with values that nobody has proven.
    """
    replaced = set((await find_leftovers(environment, snapshot)).replaced)
    was_there = bool(replaced) or any(was.ran for was in snapshot.before.containers.values())
    return was_there and replaced <= {container.service for container in snapshot.containers}


async def _prove_again(
    recorder: OperationRecorder, environment: Environment, application: Application, snapshot: PreDeploySnapshot
) -> tuple[ServiceStart, ...]:
    """Start what ran before in its order, and prove it."""
    ran = {was.service for was in snapshot.before.containers.values() if was.ran}
    inner = replace(recorder, facts={}, steps=(), done=frozenset())
    starts = await start_in_order(inner, environment, part_of(application, ran))
    recorder.facts["release_start"] = dict(inner.facts)
    return starts


def found_by(detail: str) -> PreDeploySnapshot:
    """The state before an interrupted start, from its finished step; the containers it replaced are lost."""
    reported = json.loads(detail)
    containers = {key: PreviousContainer(**was) for key, was in reported["containers"].items()}
    return PreDeploySnapshot(before=PreDeployState(containers=containers, networks=tuple(reported["networks"])))


async def apply_release(
    recorder: OperationRecorder, environment: Environment, release: Release, *, one_by_one: bool = False
) -> tuple[Application, tuple[ServiceStart, ...], HealthReport]:
    """Bring a release back: its configuration and its images, started in order and proven like any start.

    Volumes are left alone. Values and files that differ now are those that the release kept, if it kept them. With
    `one_by_one` Compose replaces the services that differ one after the other, so that versions before 2.29.7 replace
    none of their dependants.

    Raises:
        ReleaseError: An image of the release is gone and no registry has it, or a value it needs is gone.
        StartFailedError: A service did not come up.
    """
    release = await fetch_release_images(environment, release)
    document = await release_document(environment, release)
    application = await read_released(environment, document)
    values = await _changed_values(recorder, environment, release) if VALUES in document else ()
    for fact, text in (
        ("kept_values", values_in_words(values)),
        ("mounted_copies", copies_in_words(copied_by(document))),
    ):
        recorder.facts.pop(fact, None)
        if text:
            log.warning("%s", text)
            recorder.facts[fact] = text
    if one_by_one:
        images = {service.image: release.images.get(name, "") for name, service in application.services.items()}
        container_states = await inspect_application(environment)
        overlaps = await asyncio.to_thread(decide_overlaps, environment, application, container_states)
        planned = plan(application, container_states, images, overlaps=overlaps)
        # What a person paused meanwhile is left as it is.
        paused = paused_services(container_states)
        for line in (change for change in planned.changes if change.service not in paused):
            if line.action in (PlannedAction.CREATE, PlannedAction.RECREATE) and not (
                line.start_first and await _went_back_start_first(recorder, environment, application, line, document)
            ):
                await create_containers(environment, document, services=[line.service])
    else:
        await create_containers(environment, document)
    inner = replace(recorder, facts={}, steps=(), done=frozenset())
    starts = await start_in_order(inner, environment, application, document=document)
    recorder.facts["release_start"] = dict(inner.facts)
    asleep = {start.service for start in starts if start.state == "paused"}
    proven = {start.service for start in starts} - asleep if asleep else None
    return application, starts, await verify(inner, environment, application, only=proven)


async def _went_back_start_first(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    line: PlannedService,
    document: Document,
) -> bool:
    """Bring one service back while the version that it replaces serves; False where that failed, and left nothing."""
    try:
        how = await replace_start_first(recorder, environment, application, line.service, document)
    except RoasError as error:
        log.warning("%s does not go back start-first: %s", line.service, await recorder.without_secrets(error))
        await settle_replacements(recorder, environment, application, back=True)
        return False
    log.info("%s goes back: %s", line.service, how)
    return True


async def _changes(
    recorder: OperationRecorder, environment: Environment, application: Application, release: Release
) -> list[str]:
    """What the failed start changed from the last proven release: often that is the cause."""
    now = datetime.now(UTC)
    try:
        template = await read_template(environment, application)
        tried = await inspect_release(environment, application, template, "", recorder.deployment_id, now)
    except RoasError as error:
        log.info("what changed is not known: %s", error)
        return []
    return list(differences(release, tried))


async def _take_back(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    snapshot: PreDeploySnapshot,
    copies: Mapping[str, str] | None = None,
) -> str:
    """Stop started containers, remove new ones, and make replaced ones again; `copies` take the place of files."""
    leftovers = await find_leftovers(environment, snapshot)
    if copies:
        leftovers, snapshot = await _with_copies(environment, leftovers, snapshot, copies)
    replaced_containers = [container for container in snapshot.containers if container.service in leftovers.replaced]
    # How to make them again is not on record, so what took their place may be all there is, or be them already.
    unknown = set(leftovers.replaced) - {container.service for container in replaced_containers}
    remove = [container for container in leftovers.remove if container.service not in unknown]
    await _stop(environment, application, [*leftovers.stop, *remove])
    await _note(recorder, leftovers.stop, "stopped")
    await _remove(recorder, environment, application, remove, leftovers.networks, stopped=True)
    back = await put_back(environment, replaced_containers) if replaced_containers else []
    proxies = ProxyFollower(environment=environment, application=application, since=recorder.started_at)
    for service in back:
        await proxies.follow(service)
    await proxies.settle()
    phrases = [
        _said("stopped", (container.service for container in leftovers.stop)),
        _said("removed", (container.service for container in remove if container.service not in back)),
        _said("put back as before", back),
        _said("could not put back, and left as it is", unknown),
        _said("could not put back", set(leftovers.replaced) - set(back) - unknown),
    ]
    return "; ".join(filter(None, phrases)) or "nothing had been started"


async def _with_copies(
    environment: Environment, leftovers: Leftovers, snapshot: PreDeploySnapshot, copies: Mapping[str, str]
) -> tuple[Leftovers, PreDeploySnapshot]:
    """Let the containers that mount such a file be made again, too, and mount the copies; not what a person paused."""
    container_states = await inspect_application(environment)
    containers = tuple(
        replace(container, reported=with_mounted_copies(container.reported, copies))
        for container in snapshot.containers
    )
    again = {new.service for new, old in zip(containers, snapshot.containers, strict=True) if new != old}
    again -= paused_services(container_states)
    removed = {container.container_id for container in leftovers.remove}
    more = tuple(
        container
        for container in container_states
        if container.service in again and not container.one_off and container.container_id not in removed
    )
    return (
        replace(
            leftovers,
            stop=tuple(container for container in leftovers.stop if container.service not in again),
            remove=(*leftovers.remove, *more),
            replaced=tuple(sorted({*leftovers.replaced, *again})),
        ),
        replace(snapshot, containers=containers),
    )


async def _remove(
    recorder: OperationRecorder,
    environment: Environment,
    application: Application,
    made: Sequence[ContainerState],
    networks: Sequence[str],
    *,
    stopped: bool = False,
) -> None:
    if not stopped:
        await _stop(environment, application, made)
    by_service = _by_service(made)
    await asyncio.gather(
        *(
            remove_containers(environment, service, [container.container_id for container in containers])
            for service, containers in by_service.items()
        )
    )
    await _note(recorder, made, "removed")
    if networks:
        await remove_networks(environment, networks)


async def _stop(environment: Environment, application: Application, containers: Sequence[ContainerState]) -> None:
    """In reverse order of the start, each with its grace period."""
    by_service = _by_service([container for container in containers if container.up])
    for wave in stop_waves(application, dependencies_of(environment, application)):
        await asyncio.gather(
            *(
                stop_containers(environment, name, by_service[name], application.services[name].stop_grace_period)
                for name in wave
                if name in by_service
            )
        )


async def _note(recorder: OperationRecorder, containers: Sequence[ContainerState], state: str) -> None:
    why, changes = "the start was rolled back", []
    for name, service_containers in _by_service(containers).items():
        result = ServiceStart(
            service=name, previous_state=service_containers[0].state, state=state, reason=why, kept=False
        )
        changes.append(recorder.change(result, {"containers": len(service_containers)}))
    if changes:
        await record_changes(changes)


def _by_service(containers: Iterable[ContainerState]) -> dict[str, list[ContainerState]]:
    containers_by_service: dict[str, list[ContainerState]] = {}
    for container in containers:
        containers_by_service.setdefault(container.service, []).append(container)
    return containers_by_service


def _said(what: str, services: Iterable[str]) -> str:
    names = sorted(set(services))
    return f"{what} {', '.join(names)}" if names else ""
