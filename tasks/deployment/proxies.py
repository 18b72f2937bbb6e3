"""Let proxies follow the services behind them, whose addresses operations change, and prove services through them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus

from adapters.probes.addresses import find_address
from adapters.probes.http import status_of
from adapters.probes.outcome import ProbeFailed
from core.deployment.overlap import is_gateway_failure, proxies_of
from models.compose import Application
from models.containers import ContainerState, replicas
from models.environments import Environment, HttpProbe
from models.failures import RoasError, StartFailedError
from tasks.deployment.overlap import proxies_to_reload, reload_after_start, run_programs
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import READ
from tasks.runtime.task import task

log = logging.getLogger("roas")

CLOCKS = timedelta(minutes=1)
"""The engine's clock and ours may differ by so much."""

_ANSWER_SECONDS = 10.0
_NO_ANSWER = 504
_FOUND_WITHIN_SECONDS = 20.0
"""So long a proxy may take to find what has another address."""

_ASK_AGAIN_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class ProxyFollower:
    """Reloads the proxies of services whose containers an operation starts. `since` is when the operation began."""

    project: Project
    application: Application
    since: datetime
    _refused: dict[str, RoasError] = field(default_factory=dict)

    async def follow(self, service: str, *, changed: bool = True) -> None:
        """Reload the proxies of a service; `settle` tries again where one refuses.

        A service that is not `changed` counts where one of its containers was started since the operation began: an
        earlier process of the operation may have done that.
        """
        proxies = proxies_to_reload(self.project, self.application, service)
        if not proxies:
            return
        try:
            reloaded = await reload_after_start(
                self.project, service, proxies, None if changed else self.since - CLOCKS
            )
        except RoasError as error:
            self._refused[service] = error
            return
        self._refused.pop(service, None)
        if reloaded:
            log.info("%s was reloaded, because %s may have another address", ", ".join(reloaded), service)

    async def settle(self) -> None:
        """Try again what refused: it may have needed another service that was not up yet.

        Raises:
            StartFailedError: A proxy refuses still, so it passes requests on to addresses that may be gone.
        """
        for service in tuple(self._refused):
            await self.follow(service)
        for error in self._refused.values():
            raise error


async def answers_through(project: Project, application: Application, services: Collection[str]) -> dict[str, int]:
    """The status that each proxy among or in front of these services answers with now; those that answer nothing lack.

    Only its first page is asked, or the one of its probe: what it answers may be of another service.
    """
    proxies = _proxies_in_front(project, application, services)
    return await ask_proxies(project, proxies) if proxies else {}


def _proxies_in_front(project: Project, application: Application, services: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted({proxy for name in services for proxy in _proxies_of(project, application, name)}))


def _proxies_of(project: Project, application: Application, service: str) -> set[str]:
    """The proxies through which a service is reached; itself, if it is one."""
    if service not in application.services:
        return set()
    programs = run_programs(application)
    proxies = {service} if service in programs and programs[service].proxy else set()
    return (
        proxies | proxies_of(application, service, project.environment, programs).keys() & application.services.keys()
    )


@task(name="probe through the proxies", task_run_name="probe through {proxies}", **READ)
async def ask_proxies(
    project: Project, proxies: Collection[str], before: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The status that each proxy answers with, by its service; those that answer nothing lack.

    With what they answered `before` they are asked again for some seconds, until none fails that had not failed.
    """
    until = asyncio.get_running_loop().time() + _FOUND_WITHIN_SECONDS
    while True:
        now = await _statuses(project, proxies)
        if before is None or not _new_failures(before, now) or asyncio.get_running_loop().time() > until:
            return now
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _new_failures(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {
        proxy: status
        for proxy, status in now.items()
        if is_gateway_failure(status) and not is_gateway_failure(before.get(proxy, status))
    }


async def _statuses(project: Project, proxies: Collection[str]) -> dict[str, int]:
    async def ask(proxy: str) -> int | None:
        try:
            container_states = await asyncio.to_thread(project.inspect_containers, proxy)
            running = (container for container in replicas(container_states) if container.state == "running")
            container = next(running, None)
            page = None if container is None else page_of(project.environment, container)
            if container is None or page is None:
                return None
            place = await find_address(page[0], container, project.engine, timeout_seconds=_ANSWER_SECONDS)
            return await status_of(place, page[1], _ANSWER_SECONDS)
        except TimeoutError:
            return _NO_ANSWER
        except (RoasError, ProbeFailed) as error:
            log.debug("%s was not asked: %s", proxy, error)
            return None

    answers = await asyncio.gather(*map(ask, proxies))
    return {proxy: status for proxy, status in zip(proxies, answers, strict=True) if status is not None}


async def prove_through(
    project: Project, application: Application, services: Collection[str], before: Mapping[str, int]
) -> None:
    """Ask through the proxies in front of services that were changed and proven; `before` are their answers until then.

    Raises:
        StartFailedError: A proxy answered before, and now says that what is behind it does not.
    """
    proxies = _proxies_in_front(project, application, services)
    now = await ask_proxies(project, proxies, before) if proxies else {}
    new = _new_failures(before, now)
    if not new:
        for proxy, status in now.items():
            if is_gateway_failure(status):
                log.warning("%s answers %d, though what is behind it is proven", proxy, status)
        return
    behind = sorted(name for name in services if _proxies_of(project, application, name) & new.keys())
    problem = " and ".join(
        f"{proxy} answers {status}, and answered {before[proxy]} before" for proxy, status in new.items()
    )
    raise StartFailedError(
        f"{', '.join(behind)} {'is' if len(behind) == 1 else 'are'} proven, but {problem}",
        advice=f"does the proxy ask the right port? roas logs {project.environment.name} {next(iter(new))}",
        service=behind[0] if len(behind) == 1 else None,
    )


async def await_proxies(project: Project, application: Application) -> None:
    """Wait some seconds until the proxies of an application find its services; raises nothing where one does not."""
    if proxies := _proxies_in_front(project, application, application.services):
        await ask_proxies(project, proxies, dict.fromkeys(proxies, int(HTTPStatus.OK)))


def page_of(environment: Environment, container: ContainerState) -> tuple[int, str] | None:
    """The port and path of a proxy that are asked: those of its probe, else its first published port and page."""
    probe = environment.service(container.service).probe
    if isinstance(probe, HttpProbe) and probe.scheme == "http" and not probe.headers:
        return probe.port, probe.path
    ports = sorted(int(port.removesuffix("/tcp")) for port in container.ports if port.endswith("/tcp"))
    return (ports[0], "/") if ports else None
