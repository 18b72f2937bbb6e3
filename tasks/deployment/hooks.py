"""Run one hook: a one-off container, a command inside a container, or a command on this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from adapters.host.processes import kill_marked
from adapters.host.programs import ProgramResult, ProgramRun, run_beside
from core.common.safe_text import printable
from core.deployment.hooks import container_name, containers_of_job, left_behind, not_running
from models.compose import Application
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.failures import ContainerGoneError, EngineError, RoasError, StartFailedError
from models.hooks import Hook
from models.operations import OperationStatus, OperationType
from tasks.deployment.images import fetch_one, pull_allowed
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ, retry_read
from tasks.runtime.stores import open_stores
from tasks.runtime.task import finish_even_so, task
from tasks.runtime.traces import describe_span

log = logging.getLogger("roas")

_ASK_AGAIN_SECONDS = 0.25
_UPDATES_BACK = 50
OUTPUT_LINES = 2000
"""So many lines of a container's output are read at its end."""

_OUTPUT_BYTES = 256 * 1024
_GRACE = timedelta(seconds=10)
_MOST_SECONDS_OVER = 5.0
"""A command inside a container that prints now and then may exceed its time limit by so much."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOrder:
    """A hook to run, in which operation. `application` has the services of all profiles.

    `when` is BY_THE_CLOCK for a job, which belongs to no operation; `deployment_id` is then that of its run.
    """

    hook: Hook
    deployment_id: str
    application: Application
    when: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOutcome:
    """How a hook ended; the output is redacted. `exit_code` is None where it did not end by itself: see `problem`.

    `container` is its container as it was before it was removed. `began` is False where it could not be run at all.
    """

    exit_code: int | None
    output: str
    problem: str = ""
    container: ContainerState | None = None
    began: bool = True


@task(name="read all services", **READ)
async def read_all_services(project: Project) -> Application:
    """What the Compose files declare of every profile.

    Raises:
        ComposeError: Compose cannot read them.
    """
    return await asyncio.to_thread(_with_all_profiles(project).compose().render)


@task(name="fetch the images of hooks", **EFFECT)
async def fetch_hook_images(project: Project, application: Application, services: Sequence[str]) -> None:
    """Pull or build the images of services that run as one-off containers.

    Raises:
        ImageFetchError: One cannot be had, or is held back.
    """
    declarations = [application.services[name] for name in services]
    built = [declaration.name for declaration in declarations if declaration.build]
    pulled = [
        declaration.name
        for declaration in declarations
        if not declaration.build and declaration.pull_policy != "never" and "@" not in declaration.image
    ]
    everything = _with_all_profiles(project)
    for name in built:
        await fetch_one("build", name, lambda name=name: everything.compose().build([name]))  # type: ignore[misc]
    for name in pulled:
        await fetch_one("pull", name, lambda name=name: pull_allowed(everything, name, always=True))  # type: ignore[misc]


@retry_read
async def proven_hook_images(environment: str) -> dict[str, str]:
    """The ids of the images that hooks alone ran in the last update that succeeded, by service."""

    def read() -> dict[str, str]:
        ended = open_stores().operations.history(environment, OperationType.START, limit=_UPDATES_BACK)
        succeeded = (operation.record for operation in ended if operation.status is OperationStatus.SUCCESS)
        return next((record.hook_images for record in succeeded if record.hook_images), {})

    return await asyncio.to_thread(read)


@task(name="run a hook", task_run_name="hook {order.hook.name}", **EFFECT)
async def run_hook(project: Project, order: HookOrder) -> HookOutcome:
    """Run a hook to its end or its time limit. Its one-off container is removed, however it ends.

    A container that an earlier process began for this operation is taken up instead of a new one.
    """
    hook = order.hook
    describe_span(environment=project.environment.name, service=hook.concerns, deployment_id=order.deployment_id)
    if hook.service is not None:
        outcome = await _one_off(project, order)
    elif hook.exec is not None:
        outcome = await _inside(project, hook)
    else:
        outcome = await _on_this_machine(project.environment, order)
    # It may have written a file of variables.
    project.refresh()
    redactor = await asyncio.to_thread(project.redactor)
    return HookOutcome(
        exit_code=outcome.exit_code,
        output=redactor.text(printable(outcome.output)),
        problem=redactor.text(printable(outcome.problem)),
        container=outcome.container,
        began=outcome.began,
    )


async def hook_container(project: Project, hook: Hook, deployment_id: str) -> ContainerState | None:
    """The one-off container of a hook that an earlier process began in this operation; None without one.

    Raises:
        EngineError: The engine did not answer, or refused.
    """
    if hook.service is None:
        return None
    name = container_name(project.environment.project, hook.name, deployment_id)
    return await asyncio.to_thread(_find, project, name)


async def kill_left_command(environment: Environment, hook: Hook, deployment_id: str) -> None:
    """Kill a command on this machine that outlived the process which began it in this operation, with its children."""
    if hook.command is not None and hook.service is None:
        killed = await asyncio.to_thread(kill_marked, _marks(environment, hook, deployment_id))
        if killed:
            log.warning("hook %s still ran without its update; it was killed", hook.name)


async def end_left_hooks(project: Project, container_states: Iterable[ContainerState], deployment_id: str) -> None:
    """Stop and remove the one-off containers that hooks of other operations left behind."""
    for container in left_behind(project.environment.project, container_states, deployment_id):
        log.warning("%s was left behind by an interrupted update; it is stopped and removed", container.name)
        await _remove(project, container.container_id)


async def end_left_jobs(project: Project, job: str) -> None:
    """Stop and remove the one-off containers that earlier runs of a job left behind, as their process was killed."""
    container_states = await asyncio.to_thread(project.inspect_containers)
    for container in containers_of_job(project.environment.project, job, container_states):
        log.warning("%s was left behind by a run that was killed; it is stopped and removed", container.name)
        await _remove(project, container.container_id)


def _with_all_profiles(project: Project) -> Project:
    return Project(project.environment.model_copy(update={"profiles": ("*",)}))


def _find(project: Project, name: str) -> ContainerState | None:
    try:
        return project.engine.containers.inspect(name)
    except ContainerGoneError:
        return None


async def _remove(project: Project, container_id: str) -> None:
    def remove() -> None:
        containers = project.engine.containers
        try:
            containers.stop(container_id, _GRACE)
            containers.remove(container_id)
        except ContainerGoneError:
            return

    try:
        await asyncio.shield(asyncio.to_thread(remove))
    except EngineError as error:
        log.warning("container %s of a hook could not be removed: %s", container_id[:12], error)


async def _one_off(project: Project, order: HookOrder) -> HookOutcome:
    hook = order.hook
    name = container_name(project.environment.project, hook.name, order.deployment_id, order.when)
    container = await asyncio.to_thread(_find, project, name)
    try:
        if container is None:
            await _need_dependencies(project, order)
            labels = {"roas.hook": hook.name, "roas.deployment": order.deployment_id}
            # Every service of it was read with all profiles; naming the service switches its own on.
            # What it makes can be removed once it has ended.
            run_one_off = partial(project.compose().run_one_off, hook.service or "", name, hook.command or (), labels)
            await finish_even_so(asyncio.to_thread(run_one_off))
            container = await asyncio.to_thread(_find, project, name)
        else:
            log.info("hook %s goes on in its container %s", hook.name, name)
        if container is None:
            return HookOutcome(
                exit_code=None, output="", problem=f"had no container {name} after Compose made it", began=False
            )
        return await _wait_for_end(project, hook, container)
    except RoasError as error:
        return HookOutcome(exit_code=None, output="", problem=f"could not be run: {error}", began=False)
    finally:
        leftover = await asyncio.to_thread(_find, project, name)
        if leftover is not None:
            await _remove(project, leftover.container_id)


async def _need_dependencies(project: Project, order: HookOrder) -> None:
    containers = project.engine.containers
    up = set((await asyncio.to_thread(containers.services, project.environment.project, running=True)).values())
    if missing := not_running(order.hook, order.application, up):
        raise StartFailedError(
            f"{order.hook.service} depends on {', '.join(missing)}, which {'does' if len(missing) == 1 else 'do'} "
            "not run;",
            advice=f"start the application first: roas start {project.environment.name}",
        )


async def _wait_for_end(project: Project, hook: Hook, container: ContainerState) -> HookOutcome:
    containers, key = project.engine.containers, container.container_id
    since = container.started_at or container.created_at or datetime.now(UTC)
    until = since + timedelta(seconds=hook.timeout_seconds)
    problem = ""
    while container.up:
        if datetime.now(UTC) >= until:
            problem = f"did not end within {hook.timeout_seconds:g} s, and was stopped"
            await asyncio.to_thread(containers.stop, key, _GRACE)
        else:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        container = await asyncio.to_thread(containers.inspect, key)
        if problem:
            break
    output = await asyncio.to_thread(containers.logs, key, OUTPUT_LINES)
    if not problem and container.state == "created":
        problem = f"was not started: {container.error or 'the engine says no reason'}"
    if not problem and container.oom_killed:
        problem = f"was killed for using too much memory (exit code {container.exit_code})"
    code = None if problem and container.state == "created" else container.exit_code
    return HookOutcome(exit_code=code, output=output, problem=problem, container=container)


async def _inside(project: Project, hook: Hook) -> HookOutcome:
    spec, limit = hook.exec, hook.timeout_seconds
    if spec is None:
        raise ValueError(f"hook {hook.name} runs nothing inside of a container")
    containers = project.engine.containers
    try:
        container_states = await asyncio.to_thread(project.inspect_containers, spec.service)
        running = [container for container in replicas(container_states) if container.state == "running"]
        if not running:
            return HookOutcome(
                exit_code=None, output="", problem=f"could not be run: {spec.service} does not run", began=False
            )
        code, output = await asyncio.wait_for(
            asyncio.to_thread(
                containers.exec, running[0].container_id, spec.command, timedelta(seconds=limit), last=True
            ),
            limit + _MOST_SECONDS_OVER,
        )
    except TimeoutError as error:
        problem = f"did not end within {limit:g} s; the engine cannot stop it, so it may still run in {spec.service}"
        return HookOutcome(exit_code=None, output=getattr(error, "printed", ""), problem=problem)
    except RoasError as error:
        return HookOutcome(exit_code=None, output="", problem=f"could not be run: {error}", began=False)
    return HookOutcome(exit_code=code, output=output)


async def _on_this_machine(environment: Environment, order: HookOrder) -> HookOutcome:
    hook = order.hook
    command = hook.command or ()
    # No variable of this process: it may hold secrets that the command has no need for.
    marks = _marks(environment, hook, order.deployment_id)
    program = ProgramRun(
        words=command,
        variables={"PATH": _PATH, "LANG": "C.UTF-8"} | marks,
        limit_seconds=hook.timeout_seconds,
        most_bytes=_OUTPUT_BYTES,
        folder=environment.compose_files[0].parent.absolute(),
        writes_log=True,
    )
    try:
        result = await run_beside(program)
    except OSError as error:
        why = error.strerror or str(error)
        return HookOutcome(exit_code=None, output="", problem=f"could not be run: {command[0]}: {why}", began=False)
    except asyncio.CancelledError:
        await asyncio.to_thread(kill_marked, marks)
        raise
    if result.code is None:
        await asyncio.to_thread(kill_marked, marks)
        problem = f"did not end within {hook.timeout_seconds:g} s, and was killed"
        return HookOutcome(exit_code=None, output=_text(result), problem=problem)
    ending = result.ending if result.code < 0 or result.memory_ran_out else ""
    return HookOutcome(exit_code=result.code, output=_text(result), problem=ending)


def _text(result: ProgramResult) -> str:
    # Only whole lines: half a secret at the cut would not be known as one.
    return result.out.partition("\n")[2] if result.is_cut else result.out


def _marks(environment: Environment, hook: Hook, deployment_id: str) -> dict[str, str]:
    """Variables of a command on this machine, by which it and its children are found again."""
    return {"ROAS_ENVIRONMENT": environment.name, "ROAS_DEPLOYMENT_ID": deployment_id, "ROAS_HOOK": hook.name}
