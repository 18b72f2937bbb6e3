"""Ask recognised programs whether they take their configuration, before they are reloaded, restarted or replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath

from adapters.docker.engine import DockerEngine
from adapters.docker.scratch import checking_body, dockerfile_lines
from adapters.programs import shipped_programs
from core.common.stamps import without_stamp
from core.deployment.configuration import ReadAnew, check_command, refusal, to_check
from core.deployment.hooks import container_name
from core.deployment.kept_files import remount
from models.adoption import ConfigurationCheck
from models.compose import Application, Plan, PlannedAction
from models.containers import ContainerState
from models.failures import EngineError, RoasError, StartFailedError, ValidationFailedError
from tasks.deployment.overlap import proxies_to_reload
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import READ
from tasks.runtime.task import task

log = logging.getLogger("roas")

_WITHIN = timedelta(seconds=30)
_ASK_AGAIN_SECONDS = 0.1
_LABEL = "roas.check"
_ENTRYPOINT = "docker-entrypoint.sh"

_ADVICE = "Correct that file; what runs goes on with what it read before."


async def refuse_broken_configurations(
    project: Project,
    application: Application,
    planned: Plan,
    container_states: Sequence[ContainerState],
    deployment_id: str,
) -> None:
    """Ask each program that what is planned makes read its configuration anew.

    Raises:
        ValidationFailedError: One refuses it; nothing was touched.
    """
    hashes = {name: declaration.config_hash for name, declaration in application.services.items()}
    reloaded = {
        proxy
        for line in planned.services
        if line.action is not PlannedAction.KEEP
        for proxy in proxies_to_reload(project, application, line.service)
    }
    checks = to_check(planned, container_states, hashes, reloaded)
    if refused := await _refusals(project, application, checks, deployment_id):
        raise ValidationFailedError(_sentence(refused), advice=_ADVICE, service=min(refused))


async def refuse_broken_proxies(
    project: Project, application: Application, deployment_id: str, other_files: Collection[str] = ()
) -> None:
    """Ask each proxy that has to follow a service whose address changes.

    Those of `other_files` are replaced by ones that mount other files than now, so what is mounted now says nothing.

    Raises:
        ValidationFailedError: One refuses its configuration, so it could not follow; nothing was touched.
    """
    proxies = {name for service in application.services for name in proxies_to_reload(project, application, service)}
    checks = dict.fromkeys(sorted(proxies.difference(other_files)), ReadAnew.RELOADED)
    if refused := await _refusals(project, application, checks, deployment_id):
        raise ValidationFailedError(_sentence(refused), advice=_ADVICE, service=min(refused))


async def refuse_to_restart(project: Project, application: Application, service: str, deployment_id: str = "") -> None:
    """Ask the program of a service that runs, before it is restarted, whether it would come up with what is mounted.

    Raises:
        StartFailedError: It refuses its configuration, and goes on with what it has read before.
    """
    refused = await _refusals(project, application, {service: ReadAnew.RESTARTED}, deployment_id)
    if refused:
        raise StartFailedError(f"{_sentence(refused)}; it was not restarted", advice=_ADVICE, service=service)


async def _refusals(
    project: Project, application: Application, checks: Mapping[str, ReadAnew], deployment_id: str
) -> dict[str, str]:
    services = {name: how for name, how in checks.items() if check_of(application, name) is not None}
    return await refused_configurations(project, application, services, deployment_id) if services else {}


def _sentence(refused: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: its configuration is not valid: {why}" for name, why in sorted(refused.items()))


@task(name="check configurations", task_run_name="check the configuration of {services}", **READ)
async def refused_configurations(
    project: Project, application: Application, services: Mapping[str, ReadAnew], deployment_id: str = ""
) -> dict[str, str]:
    """Why programs refuse their configuration, in their own words, by service; without those that take it.

    Where a program is reloaded, its running container is asked. Where it is restarted or replaced, a container that is
    thrown away tries what is mounted now, without network. What cannot be asked is not refused.
    """

    def ask(service: str, how: ReadAnew) -> str:
        check = check_of(application, service)
        if check is None:
            return ""
        try:
            return _ask(project, application, service, check, deployment_id, how)
        except (RoasError, TimeoutError) as error:
            log.info("the configuration of %s was not checked: %s", service, error)
            return ""

    answers = await asyncio.gather(*(asyncio.to_thread(ask, name, how) for name, how in services.items()))
    return {name: answer for name, answer in zip(services, answers, strict=True) if answer}


def check_of(application: Application, service: str) -> ConfigurationCheck | None:
    """How the program of a service checks its configuration; None where it has no such check."""
    declared = application.services.get(service)
    if declared is None or not declared.program:
        return None
    return next((program.configuration for program in shipped_programs() if program.id == declared.program), None)


def _ask(
    project: Project,
    application: Application,
    service: str,
    check: ConfigurationCheck,
    deployment_id: str,
    how: ReadAnew,
) -> str:
    engine = project.engine
    container_states = project.inspect_containers(service)
    running = [container for container in container_states if not container.one_off and container.state == "running"]
    if not running:
        log.info("the configuration of %s is not checked: it does not run", service)
        return ""
    command = check_command(check, engine.beside.command(running[0].container_id))
    if not command:
        return ""
    if how is ReadAnew.RELOADED:
        return refusal(check, *engine.containers.exec(running[0].container_id, command, _WITHIN))
    declared = application.services[service]
    image = declared.image if how is ReadAnew.REPLACED else running[0].image_id
    files = project.compose().injections().get(service, ()) if declared.injects_files else ()
    name = container_name(project.environment.project, f"check-{service}", deployment_id)
    original = engine.containers.snapshot(running[0].container_id)
    if how is ReadAnew.REPLACED:
        # What is mounted then is on disk, and no copy of a release.
        on_disk = {copy: path for path, copy in running[0].copies.items()}
        original = replace(original, reported=remount(original.reported, on_disk))
    entrypoint: list[str] = original.reported["Config"].get("Entrypoint") or []
    if check.through_entrypoint and len(entrypoint) == 1 and PurePosixPath(entrypoint[0]).name == _ENTRYPOINT:
        command = (entrypoint[0], *command)
    others = [other for other in application.services if other != service]
    body = checking_body(original.reported, (_LABEL, "configuration"), image, command, others)
    mounted = [mount["Destination"] for mount in original.reported.get("Mounts") or ()]
    with dockerfile_lines(engine, original.name, body, name, files) as container:
        answered = _run(engine, container, command[0])
    return refusal(check, *answered, [*mounted, *(file.target for file in files)])


def _run(engine: DockerEngine, container: str, program: str) -> tuple[int, str]:
    """Run a container to its end; its exit code and output."""
    engine.containers.start(container)
    until = time.monotonic() + _WITHIN.total_seconds()
    while (now := engine.containers.inspect(container)).up:
        if time.monotonic() > until:
            raise EngineError(f"{program} did not end within {_WITHIN.total_seconds():g} s.")
        time.sleep(_ASK_AGAIN_SECONDS)
    printed = engine.containers.logs(container)
    if now.exit_code and not printed:
        log.info("the check by %s ended with exit code %d and said nothing", program, now.exit_code)
    return now.exit_code, "\n".join(map(without_stamp, printed.splitlines()))
