"""What an enrolled host has on its control plane: a deployment of each flow for each of its environments."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.context import AsyncClientContext
from prefect.exceptions import PrefectException

from adapters.config.environment_files import known_environments
from flows.server.deployments import declared_schedules, deployments_of, remove_gone_schedules
from flows.server.embedded import HEARTBEAT_SECONDS, RUN_SETTINGS
from flows.warm.warm_keeper import RUN_COMMAND
from models.failures import RoasError
from models.schedules import Schedule
from models.settings import current_settings

log = logging.getLogger("roas")

_LOOK_SECONDS = 15.0
_BUSY_SECONDS = 60.0
_AGAIN_SECONDS = 2.0
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

_JOB = {
    # This host's own interpreter: nothing else has to be on the path of its worker.
    "command": shlex.join(RUN_COMMAND),
    "env": {**RUN_SETTINGS, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS},
}


async def deploy_environments(
    names: Iterable[str], pool: str, report: Callable[[str], None] = lambda _: None
) -> dict[str, list[UUID]]:
    """Make or renew the deployments of environments in a work pool; their ids by environment. Doing it again is safe.

    Raises:
        PrefectHTTPStatusError: The server refuses it, such as 403 where a name belongs to another host.
        HTTPError: The server is away.
    """
    made: dict[str, list[UUID]] = {}
    # One connection for all: each would be made anew, which takes several ways to the server and back.
    async with AsyncClientContext.get_or_create():
        for name in names:
            # What watches and monitors is the agent of the host.
            deployments = await asyncio.to_thread(deployments_of, name)
            for deployment in deployments:
                deployment.job_variables = dict(_JOB)
                deployment_id = await deployment.aapply(work_pool_name=pool)
                await remove_gone_schedules(deployment, deployment_id)
                made.setdefault(name, []).append(deployment_id)
            report(f"{name}: {len(deployments)} deployments")
    return made


async def try_to_deploy(names: Iterable[str], pool: str, report: Callable[[str], None]) -> str | None:
    """The same for each by itself; why one was not completed, None where all were.

    A server that is busy is asked again for a minute; later a worker makes up for what is missing.
    """
    reason, loop = None, asyncio.get_running_loop()
    deadline = loop.time() + _BUSY_SECONDS
    for name in names:
        while True:
            try:
                await deploy_environments([name], pool, report)
            except (RoasError, HTTPError, PrefectException) as error:
                if _may_pass(error) and loop.time() < deadline:
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                reason = reason or f"{name}: {_reason(error)}"
            break
    return reason


async def try_to_remove(name: str, report: Callable[[str], None]) -> str | None:
    """Remove this host's deployments of an environment, so that another host can have them; why it was not done."""
    named = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    try:
        async with get_client() as client:
            # The server finds only this host's.
            deployments = await client.read_deployments(deployment_filter=named)
            for deployment in deployments:
                await client.delete_deployment(deployment.id)
    except (HTTPError, PrefectException) as error:
        return _reason(error)
    report(f"removed its {len(deployments)} deployments from the control plane")
    return None


def _reason(error: Exception) -> str:
    """Why the server did not take it, in its own words where it gives any."""
    if isinstance(error, HTTPStatusError):
        with suppress(ValueError, AttributeError, KeyError):
            return " ".join(str(error.response.json()["detail"]).split()).removesuffix(".")
    return " ".join(str(error).split()) or type(error).__name__


def _may_pass(error: Exception) -> bool:
    """Whether the server may take a little later what it did not take now: it was away or busy, and refused nothing."""
    if isinstance(error, HTTPStatusError):
        status = error.response.status_code
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _BUSY
    return isinstance(error, HTTPError)


async def keep_deployed(pool: str, every_seconds: float = _LOOK_SECONDS) -> None:
    """Deploy the environments of this host, those that become known later, and those whose schedules change.

    This goes on until it is cancelled.

    Where the server is away, or refuses one, it is tried again; each reason is logged once.
    """
    deployed: dict[str, Mapping[str, Schedule] | None] = {}
    reasons: dict[str, str] = {}
    while True:
        try:
            environments = set(await asyncio.to_thread(known_environments, current_settings()))
        except RoasError as error:
            log.warning("environments cannot be listed, so none is deployed: %s", error)
            environments = set(deployed)
        for name in deployed.keys() - environments:
            del deployed[name]
        for name in sorted(environments):
            schedules = await asyncio.to_thread(declared_schedules, name)
            if name in deployed and schedules in (None, deployed[name]):
                continue
            try:
                await deploy_environments([name], pool)
            except (RoasError, HTTPError, PrefectException) as error:
                # One that is refused must not keep the others from it.
                if reasons.get(name) != (reason := _reason(error)):
                    reasons[name] = reason
                    log.warning("%s is not deployed on the control plane yet: %s", name, reason)
            else:
                deployed[name] = schedules
                log.info("%s is deployed in work pool %s", name, pool)
        await asyncio.sleep(every_seconds)
