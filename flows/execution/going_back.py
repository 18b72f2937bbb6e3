"""Go back from an operation that failed: bring back the last proven release, or undo what was started."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from core.common.dependencies import dependencies_of
from core.deployment.hooks import proof_of_rollback, proves_data
from core.deployment.kept_files import copies_by_service, copies_in_words, copies_of_document, with_mounted_copies
from core.deployment.plan import paused_services, plan, start_waves, stop_waves
from core.deployment.release import (
    VALUES,
    Document,
    Leftovers,
    PreDeployState,
    PreviousContainer,
    differences,
    is_there,
    leftovers_beyond,
    values_in_words,
)
from core.deployment.update import part_of
from flows.execution.execute import start_in_order, verify
from flows.execution.hook_checks import check_after_rollback
from flows.execution.interrupted_fetch import give_back
from flows.execution.overlap import replace_start_first, settle_replacements
from flows.operation.recorder import ROLLING_BACK, OperationRecorder
from flows.operation.steps import OperationRun, Step, turn_back
from models.compose import Application, PlannedAction, PlannedService
from models.containers import ContainerState
from models.failures import OperationCancelledError, RoasError
from models.health import HealthReport
from models.operations import FOUND
from models.operations.record import NOTHING_TOUCHED, OperationRecord
from models.records import Release
from models.results import ServiceStart
from tasks.deployment.operations import is_meant_to_run, record_changes
from tasks.deployment.overlap import decide_overlaps
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.put_back import put_back, remove_containers, remove_networks
from tasks.deployment.release import (
    changed_variables,
    copies_to_mount,
    fetch_release_images,
    inspect_release,
    read_released,
    release_document,
)
from tasks.deployment.services import (
    PreDeploySnapshot,
    create_containers,
    find_leftovers,
    inspect_application,
    read_template,
    stop_containers,
)
from tasks.runtime.project import Project

log = logging.getLogger("roas")


@dataclass(slots=True, kw_only=True)
class Change(OperationRun):
    """An operation that changes containers, and what it goes back to."""

    one_by_one: bool = False
    """Whether Compose replaces only what differs, and none of its dependants, on the way back."""
    application: Application = field(init=False)
    before: PreDeploySnapshot = field(init=False)
    """The containers that were there before."""
    release: Release | None = None
    """The last proven release; without one, and where a person had stopped all, what was started is undone."""
    armed: bool = False
    """Until the operation is about to act there is nothing to go back from."""
    names: dict[str, str] = field(default_factory=dict)
    returned: tuple[Application, tuple[ServiceStart, ...], str] | None = None
    """The release that is back: its application, how it started, and in words how it came back."""

    def keep_names(self, names: Mapping[str, str]) -> None:
        """Let these names refer to these images again on the way back, so that the next start uses no failed one.

        A name without an image did not exist, and is removed. The first image that is kept of a name counts.
        """
        self.names = dict(names) | self.names


async def remember(change: Change) -> str:
    """Decide which state to go back to: from now on a failure is undone."""
    if change.recorder.step_detail(FOUND) is None:
        stopped = not await is_meant_to_run(change.environment.name, but=change.recorder.deployment_id)
        change.before = replace(change.before, before=replace(change.before.before, stopped=stopped))
    change.armed = True
    return json.dumps(asdict(change.before.before))


def recall_before(detail: str) -> PreDeploySnapshot:
    """The state before an interrupted start, from its finished step; the containers it replaced are lost."""
    reported = json.loads(detail)
    containers = {key: PreviousContainer(**was) for key, was in reported["containers"].items()}
    networks, stopped = tuple(reported["networks"]), reported.get("stopped", False)
    return PreDeploySnapshot(before=PreDeployState(containers=containers, networks=networks, stopped=stopped))


async def give_names_back(change: Change) -> None:
    """Let the names refer to the images of before, and put into the record which were moved."""
    await give_back(change.recorder, change.names)
    if not change.armed:
        change.record.undone = NOTHING_TOUCHED


async def settle_back(change: Change) -> None:
    """Undo a replacement that was not finished, and note what the failed operation changed of the last release."""
    record = change.record
    record.kept_values = record.mounted_copies = None
    await settle_replacements(change.recorder, change.application, back=True)
    if change.release is not None:
        record.changes = await _changes(change, change.release) or record.changes
        if not change.before.before.stopped:
            log.warning("rolling back to release %s, the last one that was proven", change.release.release_id)


async def put_containers_back(change: Change) -> None:
    """Bring the last proven release back; without one, stop what was started and make again what was replaced.

    So does it where a person had stopped the environment: what goes back leaves it stopped.

    Raises:
        RoasError: It could not be.
    """
    recorder, release = change.recorder, change.release
    if release is None or change.before.before.stopped:
        change.record.undone = await _take_back(change)
        log.warning("rollback: %s", change.record.undone)
        return
    values = await _changed_values(recorder, release)
    if values and await _has_all_replaced(change.project, change.before):
        # The containers of before have the values that they ran with, and the release would get today's.
        log.warning("%s changed since: the containers of before are put back as they were", ", ".join(values))
        summary = await _take_back(change, await copies_to_mount(change.project, release))
        starts = await _prove_again(change)
        change.returned = change.application, starts, f"{summary}, with the values they had"
        container_states = await inspect_application(change.project)
        if copied := copies_in_words(copies_by_service(container_states)):
            change.record.mounted_copies = copied
        if is_there(release, container_states):
            change.record.rolled_back_to = release.release_id
        return
    released, starts, _ = await apply_release(recorder, release, one_by_one=change.one_by_one)
    leftovers = leftovers_beyond(await find_leftovers(change.project, change.before), released)
    await _remove(change, leftovers.remove, leftovers.networks)
    change.record.rolled_back_to = release.release_id
    change.returned = released, starts, f"rolled back to release {release.release_id}"


async def check_what_is_back(change: Change) -> None:
    """Let the hooks of a rollback check the release that is back, and put into the record how it was proven."""
    if change.returned is None:
        return
    released, starts, back = change.returned
    # A person who ended the operation does not wait for hooks.
    ended = isinstance(change.failure, OperationCancelledError)
    runs = None if ended else await check_after_rollback(change.recorder, released)
    record = change.record
    proof = proof_of_rollback(len(starts), change.environment.hooks, runs, data_changed=bool(record.data))
    record.undone = f"{back}: {'; '.join((proof, *describe_kept(record)))}"
    record.data_proven = proves_data(runs, record.hooks_begun)
    log.warning("rollback: %s", record.undone)


def is_armed(change: Change) -> bool:
    """Whether the operation was about to act, so that there is something to go back from."""
    return change.armed


NAMES_BACK = Step("give image names back", give_names_back, when=lambda change: bool(change.names))
TURN_BACK = Step(ROLLING_BACK, turn_back, when=is_armed)
SETTLE_BACK = Step("settle replacements", settle_back, when=is_armed)
CONTAINERS_BACK = Step("put containers back", put_containers_back, when=is_armed)
CHECK_BACK = Step("verify the rollback", check_what_is_back, when=is_armed)

START_BACK = (NAMES_BACK, TURN_BACK, SETTLE_BACK, CONTAINERS_BACK, CHECK_BACK)
"""How a start goes back."""


def describe_kept(record: OperationRecord) -> tuple[str, ...]:
    """What is in use that the release kept, and that is otherwise now."""
    return tuple(filter(None, (record.kept_values, record.mounted_copies)))


async def _changed_values(recorder: OperationRecorder, release: Release) -> tuple[str, ...]:
    try:
        return await changed_variables(recorder.project, release)
    except RoasError as error:
        log.warning("which variables changed is not known: %s", await recorder.without_secrets(error))
        return ()


async def _has_all_replaced(project: Project, snapshot: PreDeploySnapshot) -> bool:
    """Whether what ran before is still there, or can be made again as it was: that not after this process was killed.

    Where nothing was replaced, the release would replace what runs by containers with values that are not proven.
    """
    replaced = set((await find_leftovers(project, snapshot)).replaced)
    was_there = bool(replaced) or any(was.ran for was in snapshot.before.containers.values())
    return was_there and replaced <= {container.service for container in snapshot.containers}


async def _prove_again(change: Change) -> tuple[ServiceStart, ...]:
    """Start what ran before in its order, and prove it."""
    ran = {was.service for was in change.before.before.containers.values() if was.ran}
    inner = replace(change.recorder, record=OperationRecord(), steps=(), done=frozenset())
    starts = await start_in_order(inner, part_of(change.application, ran))
    change.record.release_start = inner.record.model_copy()
    return starts


async def apply_release(
    recorder: OperationRecorder, release: Release, *, one_by_one: bool = False
) -> tuple[Application, tuple[ServiceStart, ...], HealthReport]:
    """Bring a release back: its configuration and its images, started in order and proven like any start.

    Volumes are left alone. Values and files that differ now are those that the release kept, if it kept them. With
    `one_by_one` Compose replaces the services that differ one after the other, so that versions before 2.29.7 replace
    none of their dependants.

    Raises:
        ReleaseError: An image of the release is gone and no registry has it, or a value it needs is gone.
        StartFailedError: A service did not come up.
    """
    release = await fetch_release_images(recorder.project, release)
    document = await release_document(recorder.project, release)
    application = await read_released(recorder.project, document)
    values = await _changed_values(recorder, release) if VALUES in document else ()
    recorder.record.kept_values = values_in_words(values) or None
    recorder.record.mounted_copies = copies_in_words(copies_of_document(document)) or None
    for text in describe_kept(recorder.record):
        log.warning("%s", text)
    if one_by_one:
        images = {service.image: release.images.get(name, "") for name, service in application.services.items()}
        container_states = await inspect_application(recorder.project)
        overlaps = await asyncio.to_thread(decide_overlaps, recorder.environment, application, container_states)
        planned = plan(application, container_states, images, overlaps=overlaps)
        # What a person paused meanwhile is left as it is.
        paused = paused_services(container_states)
        for line in (change for change in planned.changes if change.service not in paused):
            if line.action in (PlannedAction.CREATE, PlannedAction.RECREATE) and not (
                line.start_first and await _went_back_start_first(recorder, application, line, document)
            ):
                await create_containers(recorder.project, document, services=[line.service])
    else:
        await create_containers(recorder.project, document)
    inner = replace(recorder, record=OperationRecord(), steps=(), done=frozenset())
    starts = await start_in_order(inner, application, document=document)
    recorder.record.release_start = inner.record.model_copy()
    asleep = {start.service for start in starts if start.state == "paused"}
    proven = {start.service for start in starts} - asleep if asleep else None
    return application, starts, await verify(inner, application, only=proven)


async def _went_back_start_first(
    recorder: OperationRecorder, application: Application, line: PlannedService, document: Document
) -> bool:
    """Bring one service back while the version that it replaces serves; False where that failed, and left nothing."""
    try:
        how = await replace_start_first(recorder, application, line.service, document)
    except RoasError as error:
        log.warning("%s does not go back start-first: %s", line.service, await recorder.without_secrets(error))
        await settle_replacements(recorder, application, back=True)
        return False
    log.info("%s is rolled back: %s", line.service, how)
    return True


async def _changes(change: Change, release: Release) -> tuple[str, ...]:
    """What the failed start changed from the last proven release: often that is the cause."""
    application, now = change.application, datetime.now(UTC)
    try:
        template = await read_template(change.project, application)
        tried = await inspect_release(change.project, application, template, "", change.recorder.deployment_id, now)
    except RoasError as error:
        log.info("what changed is not known: %s", error)
        return ()
    return differences(release, tried)


async def _take_back(change: Change, copies: Mapping[str, str] | None = None) -> str:
    """Stop started containers, remove new ones, and make replaced ones again; `copies` take the place of files.

    These start in their order, and none waits until another serves: what they need may have failed before as well.
    """
    project, application, snapshot = change.project, change.application, change.before
    leftovers = await find_leftovers(change.project, snapshot)
    if copies:
        leftovers, snapshot = await _with_copies(project, leftovers, snapshot, copies)
    order = {name: place for place, wave in enumerate(start_waves(application)) for name in wave}
    replaced_containers = sorted(
        (container for container in snapshot.containers if container.service in leftovers.replaced),
        key=lambda container: order.get(container.service, 0),
    )
    # How to make them again is not on record, so what took their place may be all there is, or be them already.
    unknown = set(leftovers.replaced) - {container.service for container in replaced_containers}
    remove = [container for container in leftovers.remove if container.service not in unknown]
    stopped = snapshot.before.stopped
    await stop_in_reverse(project, application, [*leftovers.stop, *(leftovers.remove if stopped else remove)])
    await _note(change, leftovers.stop, "stopped")
    await _remove(change, remove, leftovers.networks, stopped=True)
    back = await put_back(change.project, replaced_containers) if replaced_containers else []
    proxies = ProxyFollower(project=project, application=application, since=change.recorder.started_at)
    for service in back:
        await proxies.follow(service)
    await proxies.settle()
    phrases = [
        _phrase("stopped", (container.service for container in leftovers.stop)),
        _phrase("removed", (container.service for container in remove if container.service not in back)),
        _phrase("put back as before:", back),
        _phrase(f"could not put back, and left {'stopped' if stopped else 'as it is'}", unknown),
        _phrase("could not put back", set(leftovers.replaced) - set(back) - unknown),
        _phrase("paused since, and left as it is", leftovers.paused),
    ]
    done = "; ".join(filter(None, phrases)) or "nothing had been started"
    return f"stopped, as it was before: {done}" if stopped else done


async def _with_copies(
    project: Project, leftovers: Leftovers, snapshot: PreDeploySnapshot, copies: Mapping[str, str]
) -> tuple[Leftovers, PreDeploySnapshot]:
    """Let the containers that mount such a file be made again, too, and mount the copies; not what a person paused."""
    container_states = await inspect_application(project)
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
    change: Change, made: Sequence[ContainerState], networks: Sequence[str], *, stopped: bool = False
) -> None:
    if not stopped:
        await stop_in_reverse(change.project, change.application, made)
    by_service = _group_by_service(made)
    await asyncio.gather(
        *(
            remove_containers(change.project, service, [container.container_id for container in containers])
            for service, containers in by_service.items()
        )
    )
    await _note(change, made, "removed")
    if networks:
        await remove_networks(change.project, networks)


async def stop_in_reverse(project: Project, application: Application, containers: Sequence[ContainerState]) -> None:
    """In reverse order of the start, each with its grace period."""
    by_service = _group_by_service([container for container in containers if container.up])
    for wave in stop_waves(application, dependencies_of(project.environment, application)):
        await asyncio.gather(
            *(
                stop_containers(project, name, by_service[name], application.services[name].stop_grace_period)
                for name in wave
                if name in by_service
            )
        )


async def _note(change: Change, containers: Sequence[ContainerState], state: str) -> None:
    why, changes = "the start was rolled back", []
    for name, service_containers in _group_by_service(containers).items():
        result = ServiceStart(
            service=name, previous_state=service_containers[0].state, state=state, reason=why, kept=False
        )
        changes.append(change.recorder.change(result, {"containers": len(service_containers)}))
    if changes:
        await record_changes(changes)


def _group_by_service(containers: Iterable[ContainerState]) -> dict[str, list[ContainerState]]:
    containers_by_service: dict[str, list[ContainerState]] = {}
    for container in containers:
        containers_by_service.setdefault(container.service, []).append(container)
    return containers_by_service


def _phrase(what: str, services: Iterable[str]) -> str:
    names = sorted(set(services))
    return f"{what} {', '.join(names)}" if names else ""
