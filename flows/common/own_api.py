"""Prefect's API in the process of its server, for what stands in front of it there."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp

from models.failures import RoasError

_TRIES = 5
_BETWEEN_TRIES_SECONDS = 1.0
_CLIENT = "own-api"


class OwnApi:
    """A client of the API that needs no connection. `auth_string` is the server's USER:PASSWORD."""

    def __init__(self, app: ASGIApp, auth_string: str) -> None:
        user, _, password = auth_string.partition(":")
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://127.0.0.1/api",
            auth=(user, password),
        )

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask the API as its own client, past its protection of browsers' sessions."""
        headers = {}
        if method != "GET":
            answer = await self._client.get("/csrf-token", params={"client": _CLIENT})
            if answer.status_code == httpx.codes.OK:
                headers = {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": _CLIENT}
        return await self._client.request(method, path, json=body, headers=headers)

    async def ask_until_done(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask until it answers, or there is no such thing; a server on SQLite is busy at times. It may be done twice.

        Raises:
            RoasError: The server does not do it.
        """
        for _ in range(_TRIES):
            answer = await self.ask(method, path, body)
            if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND:
                return answer
            await asyncio.sleep(_BETWEEN_TRIES_SECONDS)
        raise RoasError(f"{method} {path} ended with status {answer.status_code}: {answer.text[:300]}", advice="")
