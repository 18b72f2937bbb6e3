"""Replace a service start-first: each new container is proven beside the old one, which serves meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from core.deployment.overlap import proxies_of, wants_overlap
from core.deployment.plan import start_deadline
from core.deployment.release import Document
from flows.operation.recorder import OperationRecorder
from models.compose import Application
from models.containers import ContainerState
from models.failures import RoasError
from models.overlap import BesideContainer
from tasks.deployment.overlap import (
    create_another,
    give_names_back,
    is_unsettled,
    prove_beside,
    reload_proxies,
    run_programs,
    settle_beside,
    start_beside,
    stop_beside,
    take_in,
    take_out,
    take_place,
)
from tasks.deployment.proxies import ProxyFollower
from tasks.deployment.put_back import remove_containers
from tasks.deployment.services import inspect_application, read_injected_files, stop_containers
from tasks.runtime.project import Project

log = logging.getLogger("roas")

BESIDE, NAMED, DRAINED = "started beside the old container", "found under its name", "drained"
"""Steps of an operation, each of a service."""


async def replace_start_first(
    recorder: OperationRecorder, application: Application, service: str, document: Document | None = None
) -> str:
    """Replace each container of a service by one that was proven beside it; returns how, in a sentence.

    `document` is a release's configuration that `application` declares, where it is not the files.

    Raises:
        StartFailedError: A new container was not proven. It is left beside the old one, which serves, as evidence;
            the rollback removes it.
        RoasError: Compose or the engine refused.
    """
    declaration, environment = application.services[service], recorder.environment
    old_ones = [
        container
        for container in await inspect_application(recorder.project)
        if container.service == service and not container.one_off
    ]
    files = (
        (await read_injected_files(recorder.project, document)).get(service, ()) if declaration.injects_files else ()
    )
    proxies = proxies_of(application, service, environment, run_programs(application))
    spec = environment.service(service)
    deadline = start_deadline(declaration, environment).total_seconds()
    snapshot = await create_another(recorder.project, service, document)
    reloaded: set[str] = set()
    for old in old_ones:
        beside = await start_beside(recorder.project, application, old, snapshot, files, proxies)
        await recorder.step(BESIDE, service, detail=f"{beside.name} beside {old.name}")
        await prove_beside(recorder.project, declaration, beside, deadline)
        try:
            await take_in(recorder.project, old, beside, snapshot)
            await recorder.step(NAMED, service, detail=f"{beside.name} in {', '.join(beside.networks) or 'no network'}")
            reloaded |= set(await reload_proxies(recorder.project, proxies))
            if beside.networks:
                # Until now it got no request of others.
                await prove_beside(recorder.project, declaration, beside, deadline)
            is_out = await take_out(recorder.project, application, old, beside)
            if is_out:
                reloaded |= set(await reload_proxies(recorder.project, proxies))
            log.info(
                "%s: the new container is proven and serves; %s drains %g s", service, old.name, spec.drain_seconds
            )
            await prove_beside(recorder.project, declaration, beside, deadline, spec.drain_seconds)
        except RoasError:
            # Others find it already, and only the old one is known to serve.
            is_back = await give_names_back(recorder.project, old, beside)
            await stop_beside(recorder.project, beside, declaration.stop_grace_period)
            if is_back:
                await reload_proxies(recorder.project, proxies)
            raise
        await _remove_old(recorder.project, application, old, beside)
        await recorder.step(DRAINED, service, detail=f"{old.name} after {spec.drain_seconds:g} s")
        if not is_out:
            # They may hold the address of the container that is gone.
            reloaded |= set(await reload_proxies(recorder.project, proxies))
    how = f"replaced start-first, old one drained after {spec.drain_seconds:g} s"
    return f"{how}, {', '.join(sorted(reloaded))} reloaded" if reloaded else how


async def settle_replacements(
    recorder: OperationRecorder,
    application: Application,
    *,
    back: bool = False,
    container_states: Sequence[ContainerState] = (),
) -> None:
    """Finish or undo what an interrupted replacement left, so that no container stays beside another.

    `container_states` are the application's containers where they were inspected just now.

    Raises:
        EngineError: The engine refused.
    """
    if await is_unsettled(recorder.project, application, container_states):
        done = await settle_beside(recorder.project, application, back=back)
        recorder.record.replacements_settled = tuple(done)
        log.warning("an interrupted replacement: %s", "; ".join(done))
        proxies = ProxyFollower(project=recorder.project, application=application, since=recorder.started_at)
        for service, declaration in application.services.items():
            if wants_overlap(declaration, recorder.environment):
                await proxies.follow(service)
        try:
            await proxies.settle()
        except RoasError as error:
            # What follows, perhaps a rollback, must not wait for that.
            log.warning("%s", await recorder.without_secrets(error))


async def _remove_old(project: Project, application: Application, old: ContainerState, beside: BesideContainer) -> None:
    grace = application.services[old.service].stop_grace_period
    await stop_containers(project, old.service, [old], grace)
    await remove_containers(project, old.service, [old.container_id])
    await take_place(project, beside)
