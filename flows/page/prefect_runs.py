"""Deployments and runs of Prefect's server, as the page asks for them and reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx

from flows.common.own_api import OwnApi
from models.failures import NotFoundError, RoasError


class UncertainError(RoasError):
    """Whether something was begun is not known. Asking again with the same key begins it once at most."""


class PrefectRuns:
    """The runs of the server of this process."""

    def __init__(self, api: OwnApi) -> None:
        self._api = api

    async def deployment(self, flow: str, environment: str) -> dict[str, Any] | None:
        """The deployment of a flow for an environment; None where there is none.

        Raises:
            RoasError: The server does not say.
        """
        path = f"/deployments/name/{quote(flow, safe='')}/{quote(environment, safe='')}"
        answer = await self._api.ask_until_done("GET", path)
        return None if answer.status_code == HTTPStatus.NOT_FOUND else dict(answer.json())

    async def create(self, deployment: str, parameters: Mapping[str, Any], key: str, name: str) -> str:
        """Make a run of a deployment, one for each key; its id, or that of the run that has the key.

        `name` is the run's until it begins; its flow names it then.

        Raises:
            UncertainError: The server does not say whether it made it.
            NotFoundError: The deployment was removed.
        """
        # Prefect's server makes one run of a key, however often it is asked.
        body = {"parameters": parameters, "idempotency_key": key, "name": name}
        answer = await self._ask_for_run(f"/deployments/{deployment}/create_flow_run", body)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NotFoundError(f"Deployment {deployment} was removed a moment ago;", advice="reload the page.")
        return str(answer.json()["id"])

    async def id_of(self, key: str) -> str:
        """The id of the run with a key; empty where there is none.

        Raises:
            UncertainError: The server does not say.
        """
        chosen = {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 1}
        runs = (await self._ask_for_run("/flow_runs/filter", chosen)).json()
        return str(runs[0]["id"]) if runs else ""

    async def read(self, run_id: str) -> dict[str, Any]:
        """A flow run, as the server knows it.

        Raises:
            NotFoundError: There is none of this id.
            RoasError: The server does not say.
        """
        missing = NotFoundError(f"There is no run {run_id};", advice="Prefect's own page lists the runs there are.")
        try:
            path = f"/flow_runs/{UUID(run_id)}"
        except ValueError:
            raise missing from None
        answer = await self._api.ask_until_done("GET", path)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise missing
        return dict(answer.json())

    async def artifact(self, run_id: str, kind: str) -> Any:
        """What a run left as an artifact of this type; None where it left none.

        Raises:
            RoasError: The server does not say.
        """
        chosen = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "type": {"any_": [kind]}}, "limit": 1}
        artifacts = (await self._api.ask_until_done("POST", "/artifacts/filter", chosen)).json()
        data = artifacts[0]["data"] if artifacts else None
        return json.loads(data) if isinstance(data, str) else data

    async def is_pool_ready(self, pool: str) -> bool:
        """Whether a worker of a work pool is in contact.

        Raises:
            RoasError: The server does not say.
        """
        answer = await self._api.ask_until_done("GET", f"/work_pools/{quote(pool, safe='')}")
        return answer.status_code != HTTPStatus.NOT_FOUND and answer.json().get("status") != "NOT_READY"

    async def cancel(self, run_id: str) -> None:
        """Let a run that has not begun never begin.

        Raises:
            RoasError: The server does not do it.
        """
        await self._api.ask_until_done(
            "POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLED", "message": "nobody waits for it"}}
        )

    async def _ask_for_run(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            return await self._api.ask_until_done("POST", path, body)
        except RoasError as error:
            raise UncertainError(f"Prefect's server does not say whether there is a run of this: {error}") from error
