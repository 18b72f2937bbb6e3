"""Try the changed configuration of a proxy beside the one that serves, before that one reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from adapters.docker.scratch import checking_body, dockerfile_lines
from adapters.probes.addresses import find_address
from adapters.probes.http import status_of
from adapters.probes.outcome import ProbeFailed
from core.common.stamps import without_stamp
from core.deployment.configuration import refusal
from core.deployment.hooks import container_name
from core.deployment.overlap import is_gateway_failure, proxies_to_try
from models.compose import Application, Plan
from models.containers import ContainerState
from models.failures import RoasError, ValidationFailedError
from tasks.deployment.configuration import check_of
from tasks.deployment.overlap import run_programs
from tasks.deployment.proxies import page_of
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import READ
from tasks.runtime.task import task

log = logging.getLogger("roas")

_LABEL = ("roas.check", "proxy")
_WITHIN_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.5


async def refuse_lost_routes(
    project: Project, application: Application, planned: Plan, answers: Mapping[str, int], deployment_id: str
) -> None:
    """Try each proxy whose changed files are all that changes of it and of what is behind it.

    `answers` are the statuses that the proxies answer now.

    Raises:
        ValidationFailedError: With the new files one reaches nothing any more; nothing was touched.
    """
    programs = run_programs(application)
    proxies = proxies_to_try(planned, application, project.environment, programs, answers)
    if not proxies:
        return
    results = await try_proxies(project, application, proxies, deployment_id)
    failures = {name: why for name, why in results.items() if why}
    if failures:
        raise ValidationFailedError(
            "; ".join(f"{name}: with its changed files it {why}" for name, why in sorted(failures.items()))
            + f", and answers {', '.join(str(answers[name]) for name in sorted(failures))} now",
            advice="Correct these files; what runs goes on with what it read before.",
            service=min(failures),
        )


@task(name="try proxies", task_run_name="try the changed files of {proxies}", **READ)
async def try_proxies(
    project: Project, application: Application, proxies: Collection[str], deployment_id: str
) -> dict[str, str]:
    """What a copy of each proxy does with the files that are mounted now, where it reaches nothing; else empty.

    The copy is in the same networks under no name, publishes nothing and is removed. Nothing is said where it cannot be
    tried.
    """

    async def attempt(proxy: str) -> str:
        try:
            return await _try(project, application, proxy, deployment_id)
        except (RoasError, ProbeFailed, TimeoutError) as error:
            log.info("the changed files of %s were not tried: %s", proxy, error)
            return ""

    return dict(zip(proxies, await asyncio.gather(*map(attempt, proxies)), strict=True))


async def _try(project: Project, application: Application, proxy: str, deployment_id: str) -> str:
    environment = project.environment
    engine = project.engine
    container_states = await asyncio.to_thread(project.inspect_containers, proxy)
    container = next(
        (container for container in container_states if container.state == "running" and not container.one_off), None
    )
    page = None if container is None else page_of(environment, container)
    if container is None or page is None:
        return ""
    original = await asyncio.to_thread(engine.containers.snapshot, container.container_id)
    first, *other_networks = sorted(original.reported["NetworkSettings"]["Networks"] or {"none": {}})
    command = await asyncio.to_thread(engine.beside.command, container.container_id)
    body = checking_body(original.reported, _LABEL, container.image_id, command, ())
    body["HostConfig"] |= {"NetworkMode": first}
    name = container_name(environment.project, f"try-{proxy}", deployment_id)
    making = dockerfile_lines(engine, original.name, body, name)
    copy = await asyncio.to_thread(making.__enter__)
    try:
        for network in other_networks:
            await asyncio.to_thread(engine.beside.join, copy, network, ())
        await asyncio.to_thread(engine.containers.start, copy)
        until = asyncio.get_running_loop().time() + _WITHIN_SECONDS
        while (now := await asyncio.to_thread(engine.containers.inspect, copy)).up:
            status = await _status(page, now, project)
            if status is not None and not is_gateway_failure(status):
                return ""
            if asyncio.get_running_loop().time() > until:
                return "" if status is None else f"answers {status}"
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        printed = await asyncio.to_thread(engine.containers.logs, copy)
    finally:
        await asyncio.to_thread(making.__exit__, None, None, None)
    check = check_of(application, proxy)
    mounted = [mount["Destination"] for mount in original.reported.get("Mounts") or ()]
    lines = "\n".join(map(without_stamp, printed.splitlines()))
    why = "" if check is None else refusal(check, now.exit_code, lines, mounted, in_its_networks=True)
    return f"does not start ({why})" if why else ""


async def _status(page: tuple[int, str], container: ContainerState, project: Project) -> int | None:
    try:
        place = await find_address(page[0], container, project.engine, timeout_seconds=_WITHIN_SECONDS)
        return await status_of(place, page[1], _WITHIN_SECONDS)
    except (ProbeFailed, TimeoutError):
        return None
