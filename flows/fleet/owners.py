"""Which host owns a thing of the Prefect server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from core.runtime.host_access import (
    AccessRefusedError,
    Belonging,
    Claim,
    environment_of_page,
)
from flows.common.own_api import OwnApi
from models.enrolment import run_tag

_OWNER_KNOWN_SECONDS = 30.0

KNOWN_AT_MOST = 20_000

_NOTHING = "there is no such thing"


class AbsentError(Exception):
    """What a request names does not exist."""

    def __init__(self) -> None:
        super().__init__(_NOTHING)


class UnknownOwnerError(Exception):
    """The server does not say to whom a thing belongs, such as while its database is away or busy."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server could not find out to whom it belongs (status {status})")


class Owners(OwnApi):
    """To which work pools things of the server belong."""

    def __init__(self, app: ASGIApp, auth_string: str) -> None:
        super().__init__(app, auth_string)
        self._known: dict[tuple[Belonging, str], tuple[float, frozenset[str]]] = {}
        self._lookups: dict[Belonging, Callable[[str], Awaitable[frozenset[str]]]] = {
            Belonging.DEPLOYMENT: self._pools_of_deployment,
            Belonging.DEPLOYMENT_NAME: self._pools_of_deployment_name,
            Belonging.NEW_DEPLOYMENT: self._pools_of_new_deployment,
            Belonging.FLOW_RUN: self._pools_of_flow_run,
            Belonging.TASK_RUN: self._pools_of_task_run,
            Belonging.WORK_QUEUE: self._pools_of_work_queue,
            Belonging.ARTIFACT: self._pools_of_artifact,
            Belonging.ENVIRONMENT: self._pools_of_environment,
        }

    async def check(self, claim: Claim, pool: str) -> None:
        """Check that a thing belongs to a work pool alone.

        Raises:
            AccessRefusedError: It belongs to another one.
            AbsentError: There is no such thing, though there should be.
            UnknownOwnerError: It is not known now.
        """
        try:
            owners = await self.pools_of(claim)
        except AbsentError:
            if claim.may_be_new:
                return
            raise
        if owners != {pool}:
            raise AccessRefusedError(f"this {claim.kind.value.replace('_', ' ')} belongs to another host")

    async def pools_of(self, claim: Claim) -> frozenset[str]:
        """The work pools to which a thing belongs, as known for a while."""
        entry = self._known.get((claim.kind, claim.value))
        if entry is not None and time.monotonic() < entry[0]:
            return entry[1]
        pools = await self._lookups[claim.kind](claim.value)
        if len(self._known) > KNOWN_AT_MOST:
            self._known.clear()
        self._known[claim.kind, claim.value] = (time.monotonic() + _OWNER_KNOWN_SECONDS, pools)
        return pools

    def forget(self) -> None:
        """Ask anew from now on."""
        self._known.clear()

    async def _read(self, path: str) -> dict[str, Any]:
        answer = await self._client.get(path)
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY):
            raise AbsentError
        if answer.status_code != httpx.codes.OK:
            raise UnknownOwnerError(answer.status_code)
        read: dict[str, Any] = answer.json()
        return read

    async def _pools_of_deployment(self, value: str) -> frozenset[str]:
        return _pool(await self._read(f"/deployments/{value}"))

    async def _pools_of_deployment_name(self, value: str) -> frozenset[str]:
        flow, _, name = value.partition("/")
        return _pool(await self._read(f"/deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"))

    async def _pools_of_new_deployment(self, value: str) -> frozenset[str]:
        flow, _, name = value.partition("/")
        return await self._pools_of_deployment_name(f"{(await self._read(f'/flows/{flow}'))['name']}/{name}")

    async def _pools_of_flow_run(self, value: str) -> frozenset[str]:
        run = await self._read(f"/flow_runs/{value}")
        if run.get("work_pool_name"):
            return _pool(run)
        if run.get("deployment_id"):
            return await self.pools_of(Claim(Belonging.DEPLOYMENT, run["deployment_id"]))
        if run.get("parent_task_run_id"):
            return await self.pools_of(Claim(Belonging.TASK_RUN, run["parent_task_run_id"]))
        prefix = run_tag("")
        return frozenset(tag.removeprefix(prefix) for tag in run.get("tags", ()) if tag.startswith(prefix))

    async def _pools_of_task_run(self, value: str) -> frozenset[str]:
        return await self._pools_of_run_in(await self._read(f"/task_runs/{value}"))

    async def _pools_of_artifact(self, value: str) -> frozenset[str]:
        artifact = await self._read(f"/artifacts/{value}")
        if (environment := environment_of_page(artifact)) is not None:
            return await self.pools_of(Claim(Belonging.ENVIRONMENT, environment))
        return await self._pools_of_run_in(artifact)

    async def _pools_of_run_in(self, thing: dict[str, Any]) -> frozenset[str]:
        if not thing.get("flow_run_id"):
            return frozenset()
        return await self.pools_of(Claim(Belonging.FLOW_RUN, thing["flow_run_id"]))

    async def _pools_of_work_queue(self, value: str) -> frozenset[str]:
        return _pool(await self._read(f"/work_queues/{value}"))

    async def _pools_of_environment(self, value: str) -> frozenset[str]:
        answer = await self.ask("POST", "/deployments/filter", {"deployments": {"name": {"any_": [value]}}})
        if answer.status_code != httpx.codes.OK:
            raise UnknownOwnerError(answer.status_code)
        if not answer.json():
            # It is another host's as little as this one's, until its deployments are made.
            raise AbsentError
        return frozenset(str(deployment.get("work_pool_name")) for deployment in answer.json())


def _pool(thing: dict[str, Any]) -> frozenset[str]:
    return frozenset({str(thing.get("work_pool_name"))})
