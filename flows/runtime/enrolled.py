"""What an enrolled host has on its control plane: a deployment of each flow for each of its environments."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Callable, Iterable
from uuid import UUID

from httpx import HTTPError
from prefect.exceptions import PrefectException

from adapters.config.environment_files import known_environments
from flows.runtime.deployments import deployments_of
from flows.runtime.embedded import HEARTBEAT_SECONDS, RUN_SETTINGS
from flows.runtime.warm_keeper import RUN_COMMAND
from models.failures import RoasError
from models.settings import current_settings

log = logging.getLogger("roas")

_LOOK_SECONDS = 15.0

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
    for name in names:
        # What watches and monitors is the agent of the host.
        found = await asyncio.to_thread(deployments_of, name)
        for one in found:
            one.job_variables = dict(_JOB)
            made.setdefault(name, []).append(await one.aapply(work_pool_name=pool))
        report(f"{name}: {len(found)} deployments")
    return made


async def try_to_deploy(names: Iterable[str], pool: str, report: Callable[[str], None]) -> str | None:
    """The same, where a worker makes up for it later; why it was not completed, None where it was."""
    try:
        await deploy_environments(names, pool, report)
    except (RoasError, HTTPError, PrefectException) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


async def keep_deployed(pool: str, every_seconds: float = _LOOK_SECONDS) -> None:
    """Deploy the environments of this host, and those that become known later, until this is cancelled.

    Where the server is away, or refuses one, it is tried again; each reason is logged once.
    """
    deployed: set[str] = set()
    said: dict[str, str] = {}
    while True:
        try:
            known = set(await asyncio.to_thread(known_environments, current_settings()))
        except RoasError as error:
            log.warning("environments cannot be listed, so none is deployed: %s", error)
            known = deployed
        deployed &= known
        for name in sorted(known - deployed):
            try:
                await deploy_environments([name], pool)
            except (RoasError, HTTPError, PrefectException) as error:
                # One that is refused must not keep the others from it.
                if said.get(name) != str(error):
                    said[name] = str(error)
                    log.warning("%s is not deployed on the control plane yet: %s", name, error)
            else:
                deployed.add(name)
                log.info("%s is deployed in work pool %s", name, pool)
        await asyncio.sleep(every_seconds)
