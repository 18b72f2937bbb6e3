"""Steps of recovery actions: each runs once in a run, and its result is kept, so that a retry goes on after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.context import TaskRunContext

from adapters.docker.engine import DockerEngine
from adapters.host.machine import sample_host
from adapters.host.scripts import find_script, run_script
from core.common.dependencies import dependencies_of, needs_of
from core.common.safe_text import printable
from core.deployment.release import is_there, to_go_back_to
from core.recovery.action_targets import ActionContext, all_made_since, containers_to_restart
from models.compose import Application, InjectedFile, NetworkFact, ServiceDeclaration
from models.containers import ContainerState, replicas
from models.failures import ActionRefusedError, BadInputError
from models.records import Release
from models.recovery import PlannedStep, StepSpec
from models.settings import current_settings
from tasks.deployment.images import pull_allowed
from tasks.deployment.kept_files import kept_digests
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import make_async, retry_read
from tasks.runtime.store_access import from_stores
from tasks.runtime.task import task

SCRIPT_LIMIT = timedelta(seconds=60)
_GRACE = timedelta(seconds=10)
_UP = frozenset({"running", "restarting"})


@retry_read
async def read_action_context(
    project: Project,
    application: Application | None,
    service: str,
    *,
    dependencies_down: Sequence[str],
    script: str | None,
    began: datetime,
) -> ActionContext:
    """Read everything that decides whether an action is allowed; `began` is when the error was first seen.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    engine, environment = project.engine, project.environment
    declaration = application.services.get(service) if application else None
    releases = await from_stores(
        lambda stores: stores.releases.latest(environment.name), lambda records: list(records.releases)
    )

    def containers() -> tuple[tuple[ContainerState, ...], tuple[str, ...], Release | None, timedelta | None]:
        container_states = tuple(project.inspect_containers())
        unnamed = tuple(
            name
            for container in replicas(container_states, service)
            for name in engine.volumes.anonymous(container.container_id)
        )
        before = release_before(releases, container_states, began, kept_digests(environment))
        return container_states, unnamed, *before

    def networks() -> tuple[tuple[NetworkFact, ...], tuple[str, ...]]:
        project_networks = tuple(engine.networks.find(environment.project))
        return project_networks, tuple(
            network.name for network in project_networks if engine.networks.is_unused(network.name)
        )

    # Side by side, since a service is down meanwhile.
    inspection, nets, holders, image, dangling, problem = await asyncio.gather(
        asyncio.to_thread(containers),
        asyncio.to_thread(networks),
        asyncio.to_thread(engine.networks.published_ports),
        asyncio.to_thread(lambda: engine.images.inspect(declaration.image) if declaration else None),
        asyncio.to_thread(engine.images.dangling_images, environment.project),
        asyncio.to_thread(_problem_of, script),
    )
    container_states, unnamed, before, deployed_ago = inspection
    service_containers = replicas(container_states, service)
    return ActionContext(
        project=environment.project,
        service=service,
        application=application,
        environment=environment.name,
        container_states=container_states,
        needs=tuple(needs_of(dependencies_of(environment, application)).get(service, ())),
        dependencies_down=tuple(dependencies_down),
        holders=tuple(holders),
        anonymous_volumes=unnamed,
        image_held=declaration is None or image is not None,
        image_moved=image is not None and any(container.image_id != image.image_id for container in service_containers),
        networks=nets[0],
        empty_networks=nets[1],
        dangling=tuple(dangling),
        release=before.release_id if before else None,
        deployed_ago=deployed_ago,
        roll_back_within=timedelta(seconds=environment.recovery.roll_back_within_seconds),
        script=script,
        script_problem=problem,
    )


@retry_read
@make_async
def measure_engine_disk(project: Project) -> float | None:
    """Return the use of the disk with the engine's data, 0-100; None for an engine on another machine.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    if not project.environment.engine.startswith("unix://"):
        return None
    folder = project.engine.info().root_folder
    return sample_host(Path(folder), datetime.now(UTC)).disk_percent if folder else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Environment and application of a step, the id of its attempt, and the variables of a script.

    `cut_off_from` is when a dead runner began the same step, None if none did: the part that the engine has done
    is not repeated.
    """

    project: Project
    application: Application | None
    attempt_id: str
    facts: dict[str, str]
    cut_off_from: datetime | None = None

    @property
    def engine(self) -> DockerEngine:
        """The environment's engine."""
        return self.project.engine

    def containers(self, service: str) -> list[ContainerState]:
        """Return the containers of a service.

        Raises:
            ActionRefusedError: It has none.
        """
        containers = replicas(self.project.inspect_containers(service))
        if not containers:
            raise ActionRefusedError(
                f"{service} has no container in project {self.project.environment.project};",
                advice="a start makes new ones.",
            )
        return containers

    def start(self, container: ContainerState) -> None:
        """Start a container with the files that Compose gives it."""
        declared = self._declaration(container.service)
        files: tuple[InjectedFile, ...] = ()
        if declared is not None and declared.injects_files:
            files = self.project.compose().injections().get(container.service, ())
        self.engine.containers.start(container.container_id, files)

    def grace(self, service: str) -> timedelta:
        """Return the time that a service's file gives it to stop."""
        declared = self._declaration(service)
        return _GRACE if declared is None else declared.stop_grace_period

    def containers_asked_to_end(self) -> frozenset[str]:
        """Return the containers that the engine was asked to end since the step was interrupted."""
        if self.cut_off_from is None:
            return frozenset()
        with self.engine.events.stream(
            self.project.environment.project, self.cut_off_from, datetime.now(UTC)
        ) as events:
            return frozenset(event.container_id for event in events if event.action == "kill")

    def _declaration(self, service: str) -> ServiceDeclaration | None:
        return self.application.services.get(service) if self.application else None


STEPS: dict[StepSpec, Task[[StepContext, PlannedStep], Coroutine[Any, Any, str]]] = {}
"""The task of each step, which says what it did; verification and rollback consist of several."""

_Do = Callable[[StepContext, PlannedStep], str]


def _once_a_run(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """One key per attempt, step and inputs within one run: a retry of the run repeats the failed step alone."""
    step: PlannedStep = parameters["step"]
    return (
        f"{context.task_run.flow_run_id}:{context.task.task_key}:"
        f"{parameters['context'].attempt_id}:{step.doing}:{step.service}:{','.join(step.targets)}"
    )


STEP: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",
    "cache_key_fn": _once_a_run,
    "task_run_name": "{step.doing} {step.target}",
}
"""Options of a step that acts: its result is kept, and within a run it is not repeated."""


def _task_of(spec: StepSpec, *, seconds: float) -> Callable[[_Do], _Do]:
    def register(do: _Do) -> _Do:
        STEPS[spec] = task(name=f"recovery step: {spec}", timeout_seconds=seconds, **STEP)(make_async(do))
        return do

    return register


@_task_of(StepSpec.START, seconds=180)
def _start(context: StepContext, step: PlannedStep) -> str:
    idle = [container for container in context.containers(step.service) if container.state not in _UP]
    for container in idle:
        context.start(container)
    return f"started {_name_of(step.service, len(idle))}" if idle else f"{step.service} runs already"


@_task_of(StepSpec.RESTART, seconds=180)
def _restart(context: StepContext, step: PlannedStep) -> str:
    containers = context.containers(step.service)
    remaining_containers = containers_to_restart(
        containers, since=context.cut_off_from, asked_to_end=context.containers_asked_to_end()
    )
    for container in remaining_containers:
        if container.state in _UP:
            context.engine.containers.restart(container.container_id, context.grace(step.service))
        else:
            context.start(container)
    return f"restarted {_name_of(step.service, len(remaining_containers))}"


@_task_of(StepSpec.RECREATE, seconds=900)
def _recreate(context: StepContext, step: PlannedStep) -> str:
    """Let Compose make the containers anew, also where there are none, with what networks they lack."""
    there = replicas(context.project.inspect_containers(step.service))
    if not all_made_since(context.cut_off_from, there):
        for container in there:
            if container.state in _UP:
                context.engine.containers.stop(container.container_id, context.grace(step.service))
        context.project.compose().create([step.service], force_recreate=[step.service])
    containers = context.containers(step.service)
    for container in containers:
        if container.state not in _UP:
            context.start(container)
    return f"made {_name_of(step.service, len(containers))} anew and started {'it' if len(containers) == 1 else 'them'}"


@_task_of(StepSpec.JOIN, seconds=180)
def _join(context: StepContext, step: PlannedStep) -> str:
    places = [place for place in context.project.compose().places(step.service) if place.name in step.targets]
    for container in context.containers(step.service):
        for place in places:
            context.engine.networks.connect(container.container_id, place)
    return f"connected {step.service} again to {', '.join(place.name for place in places) or 'nothing'}"


@_task_of(StepSpec.PULL, seconds=900)
def _pull(context: StepContext, step: PlannedStep) -> str:
    pull_allowed(context.project, step.service)
    return f"pulled the image of {step.service}"


@_task_of(StepSpec.STOP_HOLDER, seconds=180)
def _stop_holder(context: StepContext, step: PlannedStep) -> str:
    # They are not removed, so they can be started again.
    return _do_each(context.engine.containers.stop, step.targets, "stopped")


@_task_of(StepSpec.START_HOLDER, seconds=180)
def _start_holder(context: StepContext, step: PlannedStep) -> str:
    # The service holds the port by now.
    for container in context.containers(step.service):
        context.engine.containers.stop(container.container_id, context.grace(step.service))
    return _do_each(context.engine.containers.start, step.targets, "started again")


@_task_of(StepSpec.REMOVE_IMAGES, seconds=300)
def _remove_images(context: StepContext, step: PlannedStep) -> str:
    sizes = context.engine.images.dangling_images(context.project.environment.project)
    going = [image_id for image_id in step.targets if image_id in sizes]
    for image_id in going:
        context.engine.images.remove_dangling(image_id)
    freed = sum(sizes[image_id] for image_id in going) / 1e6
    return f"removed {len(going)} dangling images of up to {freed:.1f} MB"


@_task_of(StepSpec.REMOVE_NETWORKS, seconds=120)
def _remove_networks(context: StepContext, step: PlannedStep) -> str:
    networks = context.engine.networks
    return _do_each(networks.remove, [name for name in step.targets if networks.is_unused(name)], "removed")


@_task_of(StepSpec.RUN_SCRIPT, seconds=SCRIPT_LIMIT.total_seconds() + 30)
def _run_script(context: StepContext, step: PlannedStep) -> str:
    settings = current_settings()
    script = find_script(settings.recovery_dir, step.targets[0])
    output = run_script(script, context.facts, limit=SCRIPT_LIMIT, user=settings.script_user)
    # It may have written a file of variables.
    context.project.refresh()
    return f"{script.name}: {context.project.redactor().text(printable(output))}"


def _do_each(do: Callable[[str], None], names: Sequence[str], done: str) -> str:
    for name in names:
        do(name)
    return f"{done}: {', '.join(names) or 'nothing'}"


def _problem_of(script: str | None) -> str | None:
    if script is None:
        return "The pattern that matched names no script."
    try:
        find_script(current_settings().recovery_dir, script)
    except BadInputError as error:
        return str(error)
    return None


def release_before(
    releases: Sequence[Release],
    container_states: Sequence[ContainerState],
    began: datetime,
    copies: Collection[str] = (),
) -> tuple[Release | None, timedelta | None]:
    """Return the release to roll back to, and how long before the error the running one was deployed; else None.

    A manual change is no release, and a rollback is not rolled back itself.
    """
    now = next((release for release in releases if release.proven), None)
    if now is None or now.reason or now.created_at > began or not is_there(now, container_states):
        return None, None
    before = to_go_back_to(releases, container_states, copies)
    return (before, began - now.created_at) if before is not None else (None, None)


def _name_of(service: str, containers: int) -> str:
    return service if containers == 1 else f"{containers} containers of {service}"
