"""Steps of recovery actions: each runs once in a run, and its result is kept, so that a retry goes on after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Task, task
from prefect.context import TaskRunContext

from adapters.docker.engine import DockerEngine
from adapters.host.scripts import find_script, run_script
from core.common.safe_text import printable
from core.deployment.release import is_there, to_go_back_to
from core.recovery.action_targets import ActionContext, DanglingImage
from core.recovery.resume import all_made_since, left_to_restart
from models.compose import Application, InjectedFile, NetworkFact
from models.containers import ContainerState
from models.environments import Environment
from models.failures import ActionRefusedError, BadInputError
from models.records import Release
from models.recovery import PlannedStep, StepSpec
from models.settings import current_settings
from tasks.runtime.clients import compose_of, engine_of, redactor_of
from tasks.runtime.retry_policy import retry_read
from tasks.runtime.store_access import from_stores

SCRIPT_LIMIT = timedelta(seconds=60)
_GRACE = timedelta(seconds=10)
_UP = frozenset({"running", "restarting"})


def _once_a_run(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """One key per attempt, step and inputs within one run: a retry of the run repeats the failed step alone."""
    step: PlannedStep = parameters["step"]
    return (
        f"{context.task_run.flow_run_id}:{context.task.task_key}:"
        f"{parameters['attempt_id']}:{step.doing}:{step.service}:{','.join(step.targets)}"
    )


STEP: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",
    "cache_key_fn": _once_a_run,
    "task_run_name": "{step.doing} {step.target}",
}
"""Options of a step that acts: its result is kept, and within a run it is not repeated."""


@retry_read
async def read_action_context(
    environment: Environment,
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

    engine, project = engine_of(environment), environment.project
    declaration = application.services.get(service) if application else None
    releases = await from_stores(
        lambda stores: stores.releases.latest(environment.name), lambda known: list(known.releases)
    )

    def containers() -> tuple[tuple[ContainerState, ...], tuple[str, ...], Release | None, timedelta | None]:
        container_states = tuple(engine.containers.inspect_project(project))
        mine = [seen for seen in container_states if seen.service == service and not seen.one_off]
        unnamed = tuple(name for seen in mine for name in engine.volumes.anonymous(seen.container_id))
        return container_states, unnamed, *release_before(releases, container_states, began)

    def networks() -> tuple[tuple[NetworkFact, ...], tuple[str, ...]]:
        found = tuple(engine.networks.find(project))
        return found, tuple(one.name for one in found if engine.networks.is_unused(one.name))

    # Side by side, since a service is down meanwhile.
    seen, nets, holders, image_held, dangling, problem = await asyncio.gather(
        asyncio.to_thread(containers),
        asyncio.to_thread(networks),
        asyncio.to_thread(engine.networks.published_ports),
        asyncio.to_thread(lambda: declaration is None or engine.images.inspect(declaration.image) is not None),
        asyncio.to_thread(engine.images.dangling, project),
        asyncio.to_thread(_problem_of, script),
    )
    container_states, unnamed, before, deployed_ago = seen
    return ActionContext(
        project=project,
        service=service,
        application=application,
        environment=environment.name,
        container_states=container_states,
        dependencies_down=tuple(dependencies_down),
        holders=tuple(holders),
        anonymous_volumes=unnamed,
        image_held=image_held,
        networks=nets[0],
        empty_networks=nets[1],
        dangling=tuple(DanglingImage(image_id=one, size_bytes=size) for one, size in dangling.items()),
        release=before.release_id if before else None,
        deployed_ago=deployed_ago,
        roll_back_within=timedelta(seconds=environment.recovery.roll_back_within_seconds),
        script=script,
        script_problem=problem,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Environment and application of a step, and the variables of a script.

    `cut_off_from` is when a dead runner began the same step, None if none did: the part that the engine has done
    is not repeated.
    """

    environment: Environment
    application: Application | None
    facts: dict[str, str]
    cut_off_from: datetime | None = None


@task(name="recovery step: start", timeout_seconds=180, **STEP)
async def start_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Start the containers of the service that do not run.

    Raises:
        EngineError: The engine refused.
    """

    def start() -> str:
        engine, files = engine_of(around.environment), _files_of(around, step.service)
        idle = [seen for seen in _containers(engine, around, step.service) if seen.state not in _UP]
        for seen in idle:
            engine.containers.start(seen.container_id, files)
        return f"started {_named(step.service, len(idle))}" if idle else f"{step.service} runs already"

    return await asyncio.to_thread(start)


@task(name="recovery step: restart", timeout_seconds=180, **STEP)
async def restart_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Restart the service's containers, with the time to stop that its file gives it.

    Raises:
        EngineError: The engine refused.
    """

    def restart() -> str:
        engine, files = engine_of(around.environment), _files_of(around, step.service)
        mine = _containers(engine, around, step.service)
        left = left_to_restart(mine, since=around.cut_off_from, asked_to_end=_asked_to_end(engine, around))
        for seen in left:
            if seen.state in _UP:
                engine.containers.restart(seen.container_id, _grace(around, step.service))
            else:
                engine.containers.start(seen.container_id, files)
        return f"restarted {_named(step.service, len(left))}"

    return await asyncio.to_thread(restart)


@task(name="recovery step: recreate", timeout_seconds=900, **STEP)
async def recreate_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Let Compose make the service's containers anew, with what networks they lack, and start them.

    Raises:
        ComposeError: Compose, or the engine below it, refused.
        EngineError: The engine refused.
    """

    def recreate() -> str:
        engine = engine_of(around.environment)
        there = [
            seen
            for seen in engine.containers.inspect_project(around.environment.project, step.service)
            if not seen.one_off
        ]
        if not all_made_since(around.cut_off_from, there):
            for seen in there:
                if seen.state in _UP:
                    engine.containers.stop(seen.container_id, _grace(around, step.service))
            compose_of(around.environment).create([step.service], force_recreate=[step.service])
        mine, files = _containers(engine, around, step.service), _files_of(around, step.service)
        for seen in mine:
            if seen.state not in _UP:
                engine.containers.start(seen.container_id, files)
        return f"made {_named(step.service, len(mine))} anew and started {'it' if len(mine) == 1 else 'them'}"

    return await asyncio.to_thread(recreate)


@task(name="recovery step: join its networks", timeout_seconds=180, **STEP)
async def join_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Connect the service's containers to the networks they were taken out of, as the Compose files say.

    Raises:
        ComposeError: The files cannot be read.
        EngineError: The engine refused.
    """

    def join() -> str:
        engine = engine_of(around.environment)
        places = [one for one in compose_of(around.environment).places(step.service) if one.name in step.targets]
        for seen in _containers(engine, around, step.service):
            for place in places:
                engine.networks.connect(seen.container_id, place)
        return f"connected {step.service} again to {', '.join(place.name for place in places) or 'nothing'}"

    return await asyncio.to_thread(join)


@task(name="recovery step: pull", timeout_seconds=900, **STEP)
async def pull_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Fetch the service's image once more, by exactly the name its file gives.

    Raises:
        ComposeError: The image cannot be had.
    """
    await asyncio.to_thread(compose_of(around.environment).pull, [step.service])
    return f"pulled the image of {step.service}"


@task(name="recovery step: stop the holder", timeout_seconds=180, **STEP)
async def stop_holder_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Stop the left-over containers that hold the port; they are not removed, so they can be started again.

    Raises:
        EngineError: The engine refused.
    """
    return await asyncio.to_thread(_each, engine_of(around.environment).containers.stop, step.targets, "stopped")


@task(name="recovery step: start the holder again", timeout_seconds=180, **STEP)
async def start_holder_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Start the containers again that were stopped to free a port, after stopping the service that holds it.

    Raises:
        EngineError: The engine refused.
    """

    def start() -> str:
        engine = engine_of(around.environment)
        for seen in _containers(engine, around, step.service):
            engine.containers.stop(seen.container_id, _grace(around, step.service))
        return _each(engine.containers.start, step.targets, "started again")

    return await asyncio.to_thread(start)


@task(name="recovery step: remove images", timeout_seconds=300, **STEP)
async def remove_images_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Remove dangling images of the project; says how much room they took.

    Raises:
        EngineError: The engine refused.
    """

    def remove() -> str:
        engine = engine_of(around.environment)
        sizes = engine.images.dangling(around.environment.project)
        going = [one for one in step.targets if one in sizes]
        for image_id in going:
            engine.images.remove_dangling(image_id)
        freed = sum(sizes[one] for one in going) / 1e6
        return f"removed {len(going)} dangling images of up to {freed:.1f} MB"

    return await asyncio.to_thread(remove)


@task(name="recovery step: remove networks", timeout_seconds=120, **STEP)
async def remove_networks_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Remove networks of the project that nothing declares and nothing uses.

    Raises:
        EngineError: The engine refused.
    """

    def remove() -> str:
        engine = engine_of(around.environment)
        going = [name for name in step.targets if engine.networks.is_unused(name)]
        return _each(engine.networks.remove, going, "removed")

    return await asyncio.to_thread(remove)


@task(name="recovery step: run the script", timeout_seconds=SCRIPT_LIMIT.total_seconds() + 30, **STEP)
async def run_script_step(around: StepContext, step: PlannedStep, attempt_id: str) -> str:
    """Run the script of the pattern that matched.

    Raises:
        ScriptFailedError: It failed, or did not end in time.
        BadInputError: It may not be run.
    """

    def run() -> str:
        settings = current_settings()
        script = find_script(settings.recovery_dir, step.targets[0])
        said = run_script(script, around.facts, limit=SCRIPT_LIMIT, user=settings.script_user)
        return f"{script.name}: {redactor_of(around.environment).text(printable(said))}"

    return await asyncio.to_thread(run)


STEPS: dict[StepSpec, Task[..., Coroutine[Any, Any, str]]] = {
    StepSpec.START: start_step,
    StepSpec.RESTART: restart_step,
    StepSpec.RECREATE: recreate_step,
    StepSpec.JOIN: join_step,
    StepSpec.PULL: pull_step,
    StepSpec.STOP_HOLDER: stop_holder_step,
    StepSpec.START_HOLDER: start_holder_step,
    StepSpec.REMOVE_IMAGES: remove_images_step,
    StepSpec.REMOVE_NETWORKS: remove_networks_step,
    StepSpec.RUN_SCRIPT: run_script_step,
}
"""The task of each step; verification and rollback consist of several."""


def _containers(engine: DockerEngine, around: StepContext, service: str) -> list[ContainerState]:
    mine = [seen for seen in engine.containers.inspect_project(around.environment.project, service) if not seen.one_off]
    if not mine:
        raise ActionRefusedError(
            f"{service} has no container in project {around.environment.project};",
            advice="a start makes new ones.",
        )
    return mine


def _asked_to_end(engine: DockerEngine, around: StepContext) -> frozenset[str]:
    """Return the containers that the engine was asked to end since the step was interrupted."""
    if around.cut_off_from is None:
        return frozenset()
    with engine.events.stream(around.environment.project, around.cut_off_from, datetime.now(UTC)) as events:
        return frozenset(event.container_id for event in events if event.action == "kill")


def _files_of(around: StepContext, service: str) -> tuple[InjectedFile, ...]:
    declared = around.application.services.get(service) if around.application else None
    if declared is None or not declared.injects_files:
        return ()
    return compose_of(around.environment).injections().get(service, ())


def _grace(around: StepContext, service: str) -> timedelta:
    declared = around.application.services.get(service) if around.application else None
    return _GRACE if declared is None else declared.stop_grace_period


def _each(do: Callable[[str], None], names: Sequence[str], done: str) -> str:
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
    releases: Sequence[Release], container_states: Sequence[ContainerState], began: datetime
) -> tuple[Release | None, timedelta | None]:
    """Return the release to roll back to, and how long before the error the running one was deployed; else None.

    A manual change is no release, and a rollback is not rolled back itself.
    """
    now = next((one for one in releases if one.proven), None)
    if now is None or now.reason or now.created_at > began or not is_there(now, container_states):
        return None, None
    before = to_go_back_to(releases, container_states)
    return (before, began - now.created_at) if before is not None else (None, None)


def _named(service: str, containers: int) -> str:
    return service if containers == 1 else f"{containers} containers of {service}"
